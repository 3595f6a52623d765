# SPDX-License-Identifier: Apache-2.0
"""The name by which Airflow shows where something ran: the service's, not that of a container's address."""

from __future__ import annotations

import os
import socket


def name() -> str:
    """Return what docker-compose.yml gives as ``hostname``."""
    return os.environ.get("HOSTNAME") or socket.gethostname()
