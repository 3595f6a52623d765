# SPDX-License-Identifier: Apache-2.0
"""The sandbox on real sockets: the aiohttp application, its transport, its state file, and a server in a thread."""
