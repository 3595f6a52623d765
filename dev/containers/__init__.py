# SPDX-License-Identifier: Apache-2.0
"""A container engine for the tests of docker-compose.yml: the machine's own, or one made from Debian's packages."""
