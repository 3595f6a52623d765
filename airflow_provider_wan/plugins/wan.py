# SPDX-License-Identifier: Apache-2.0
"""The Airflow plugin: the gallery's routes, its tabs on Dags, runs and tasks, and its page in the navigation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.plugins_manager import AirflowPlugin
from airflow.providers.common.compat.sdk import conf

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from fastapi import FastAPI

URL_PREFIX = "/wan"


class LazyGallery:
    """
    The gallery as an ASGI application that is built at its first request.

    Every Airflow process imports its plugins; only the API server serves this one.
    """

    def __init__(self) -> None:
        self._app: FastAPI | None = None

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Serve a request."""
        if self._app is None:
            from airflow_provider_wan.plugins.gallery.app import create_app

            self._app = create_app()
        await self._app(scope, receive, send)


def build_views() -> list[dict[str, Any]]:
    """Return the tabs and pages. Airflow's UI takes addresses as they are: they begin with its own path."""
    root = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/") + URL_PREFIX

    def view(name: str, destination: str, path: str, url_route: str, **more: Any) -> dict[str, Any]:
        return {
            "name": name,
            "href": f"{root}{path}",
            "destination": destination,
            "url_route": url_route,
            "icon": f"{root}/static/clip.svg",
            "icon_dark_mode": f"{root}/static/clip-dark.svg",
            **more,
        }

    return [
        view("Wan clips", "nav", "/", "wan-clips", category="browse"),
        view("Wan spend", "nav", "/spend", "wan-spend", category="browse"),
        view("Clips", "dag", "/dags/{DAG_ID}", "wan-dag"),
        view("Clips", "dag_run", "/dags/{DAG_ID}/runs/{RUN_ID}", "wan-run"),
        view("Clips", "task", "/dags/{DAG_ID}/tasks/{TASK_ID}", "wan-task"),
        view(
            "Clips",
            "task_instance",
            "/dags/{DAG_ID}/runs/{RUN_ID}/tasks/{TASK_ID}/{MAP_INDEX}",
            "wan-task-instance",
        ),
    ]


class WanPlugin(AirflowPlugin):
    """Registers the gallery with Airflow."""

    name = "wan"
    fastapi_apps = [  # noqa: RUF012 - Airflow reads class attributes
        {"app": LazyGallery(), "url_prefix": URL_PREFIX, "name": "Wan gallery"}
    ]
    external_views = build_views()
