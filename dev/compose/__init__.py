# SPDX-License-Identifier: Apache-2.0
"""Runs the services of a compose file as processes of this machine, without a container engine."""
