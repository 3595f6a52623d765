# SPDX-License-Identifier: Apache-2.0
"""A small client of Airflow's public REST API (v2), for the demo and the system tests."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import quote

import requests

FINAL_RUN_STATES = frozenset({"success", "failed"})


class AirflowClient:
    """Logged in as one user of Airflow's simple auth manager.

    :param url: address of the API server.
    :raises requests.HTTPError: from every method, for a response of 400 and above.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self.password = password
        self._login = {"username": user, "password": password}
        self._session = requests.Session()
        # A server on this machine is reached without the proxies and .netrc of the caller's environment.
        self._session.trust_env = False

    def log_in(self) -> None:
        answer = self._session.post(f"{self.url}/auth/token", json=self._login, timeout=30)
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        """One call below ``/api/v2``; its JSON, or None for an empty answer."""
        if "Authorization" not in self._session.headers:
            self.log_in()
        answer = self._session.request(method, f"{self.url}/api/v2{path}", timeout=60, **kwargs)
        if answer.status_code >= 400:
            raise requests.HTTPError(f"{method} {path}: {answer.status_code} {answer.text[:500]}", response=answer)
        return answer.json() if answer.content else None

    @property
    def token(self) -> str:
        """The token of the login, as a browser's cookie holds it."""
        if "Authorization" not in self._session.headers:
            self.log_in()
        return str(self._session.headers["Authorization"]).removeprefix("Bearer ")

    def gallery(self, path: str, **params: Any) -> Any:
        """The JSON of one of the gallery's routes."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = self._session.get(f"{self.url}/wan/{path}", params=params, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def pages(self, path: str, field: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Every item of a listing, page by page."""
        offset = 0
        while True:
            page = self.call("GET", path, params={**params, "limit": 100, "offset": offset})[field]
            yield from page
            offset += len(page)
            if len(page) < 100:
                return

    def health(self) -> dict[str, str]:
        """Return component → "healthy", "unhealthy" or "none"; empty while the API server does not answer."""
        try:
            answer = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=5)
            answer.raise_for_status()
        except requests.RequestException:
            return {}
        return {part: (facts or {}).get("status") or "none" for part, facts in answer.json().items()}

    def has_dag(self, dag_id: str) -> bool:
        try:
            self.call("GET", f"/dags/{dag_id}")
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code == 404:
                return False
            raise
        return True

    def import_errors(self) -> list[str]:
        return [f"{e['filename']}: {e['stack_trace']}" for e in self.pages("/importErrors", "import_errors")]

    def put_connection(self, conn_id: str, **fields: Any) -> None:
        """Put a connection into Airflow's database (``extra`` as a mapping); one of the same id is replaced."""
        body = {"connection_id": conn_id, **fields}
        if "extra" in body:
            body["extra"] = json.dumps(body["extra"])
        known = any(each["connection_id"] == conn_id for each in self.pages("/connections", "connections"))
        if known:
            self.call("PATCH", f"/connections/{conn_id}", json=body)
        else:
            self.call("POST", "/connections", json=body)

    def put_pool(self, name: str, slots: int, *, include_deferred: bool) -> None:
        """Make a pool. :param include_deferred: whether deferred tasks take slots too."""
        self.call("POST", "/pools", json={"name": name, "slots": slots, "include_deferred": include_deferred})

    def put_variable(self, key: str, value: str) -> None:
        self.call("POST", "/variables", json={"key": key, "value": value})

    def trigger(
        self,
        dag_id: str,
        *,
        logical_date: datetime | None = None,
        conf: dict[str, Any] | None = None,
        partition_key: str | None = None,
    ) -> str:
        """Start a Dag run; its run id."""
        body = {"logical_date": logical_date.isoformat() if logical_date else None, "conf": conf or {}}
        if partition_key is not None:
            body["partition_key"] = partition_key
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/dags/{dag_id}/dagRuns/{quote(run_id)}"))

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return list(self.pages(f"/dags/{dag_id}/dagRuns", "dag_runs"))

    def task_instances(self, dag_id: str, run_id: str, task_id: str | None = None) -> list[dict[str, Any]]:
        params = {"task_id": task_id} if task_id else {}
        return list(self.pages(f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances", "task_instances", **params))

    def states(self, dag_id: str, run_id: str) -> Counter[str]:
        """Count task instances by state ("none" for those not yet scheduled)."""
        return Counter(ti["state"] or "none" for ti in self.task_instances(dag_id, run_id))

    def xcom(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, key: str = "return_value") -> Any:
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        value = self.call("GET", path, params={"map_index": map_index})["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value

    def task_log(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, attempt: int = 1) -> str:
        """Return the task's log as the UI shows it: message, error type, error text and details, line by line."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/logs/{attempt}"
        content = self.call(
            "GET",
            path,
            params={"map_index": map_index, "full_content": True},
            headers={"Accept": "application/json"},
        )["content"]
        return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in content)

    def clear(self, dag_id: str, run_id: str, task_ids: list[str | list[Any]], **options: Any) -> None:
        """Clear task instances (``[task_id, map_index]`` for one mapped one), so that the scheduler runs them again."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": task_ids, "only_failed": False, **options}
        self.call("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def wait_for_run(self, dag_id: str, run_id: str, *, seconds: float, every: float = 0.5) -> str:
        """The run's final state. :raises TimeoutError: when it has none in time; the message has the tasks' states."""
        deadline = time.monotonic() + seconds
        while (state := self.run(dag_id, run_id)["state"]) not in FINAL_RUN_STATES:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{dag_id} {run_id} is {state} after {seconds:.0f} s: {dict(self.states(dag_id, run_id))}"
                )
            time.sleep(every)
        return str(state)
