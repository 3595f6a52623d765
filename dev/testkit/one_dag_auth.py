# SPDX-License-Identifier: Apache-2.0
"""An auth manager for tests: as Airflow's simple one, but each viewer may read one Dag only."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class OneDagAuthManager(SimpleAuthManager):
    """A user whose role is ``viewer`` reads the Dag that has the user's name, and no other."""

    def is_authorized_dag(self, *, user: Any, details: Any = None, **kwargs: Any) -> bool:
        """Return whether a user may do something with a Dag."""
        allowed = super().is_authorized_dag(user=user, details=details, **kwargs)
        if str(user.role).lower() != "viewer":
            return allowed
        return allowed and details is not None and details.id == user.username
