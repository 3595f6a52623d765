# SPDX-License-Identifier: Apache-2.0
"""The dbt Cloud trigger over plain http. Its hook supports https only; nothing else is changed."""

from __future__ import annotations

from typing import Any

from airflow.providers.dbt.cloud.hooks.dbt import DbtCloudHook
from airflow.providers.dbt.cloud.triggers import dbt

_params = DbtCloudHook.get_request_url_params


def _plain(*arguments: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    url, data = _params(*arguments, **more)
    return url.replace("https://", "http://", 1), data


DbtCloudHook.get_request_url_params = staticmethod(_plain)


class DbtCloudRunJobTrigger(dbt.DbtCloudRunJobTrigger):
    """The trigger without changes."""
