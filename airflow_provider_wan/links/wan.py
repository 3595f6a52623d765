# SPDX-License-Identifier: Apache-2.0
"""Extra links of the operators. They lead into Airflow's own UI, which checks who may read the Dag."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom, conf

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey


def _base_url() -> str:
    return str(conf.get("api", "base_url", fallback="")).rstrip("/")


def build_run_path(dag_id: str, run_id: str) -> str:
    """Return the path of a run's clips in Airflow's UI.

    :param dag_id: id of the Dag.
    :param run_id: id of the run.
    """
    return f"/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}/plugin/wan-run"


class WanClipsLink(BaseOperatorLink):
    """Link to the clips of a task instance in the gallery."""

    name: ClassVar[str] = "Wan clips"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address of the task instance's tab.

        :param operator: operator of the task.
        :param ti_key: key of the task instance.
        """
        mapped = f"/mapped/{ti_key.map_index}" if ti_key.map_index >= 0 else ""
        run = f"/dags/{quote(ti_key.dag_id, safe='')}/runs/{quote(ti_key.run_id, safe='')}"
        return f"{_base_url()}{run}/tasks/{quote(ti_key.task_id, safe='')}{mapped}/plugin/wan-task-instance"


class WanSheetLink(BaseOperatorLink):
    """Link to the contact sheet of a batch: the gallery redirects to it by a URL that is valid for some minutes."""

    name: ClassVar[str] = "Contact sheet"
    key: ClassVar[str] = "wan_sheet_uri"

    @classmethod
    def persist(cls, context: Context, uri: str) -> None:
        """Store where the sheet is, for the gallery.

        :param context: Airflow's context.
        :param uri: ``s3://`` URI of the sheet.
        """
        context["ti"].xcom_push(key=cls.key, value=uri)

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address; empty if there is none yet.

        :param operator: operator of the task.
        :param ti_key: key of the task instance.
        """
        if not XCom.get_value(ti_key=ti_key, key=self.key):
            return ""
        run = f"/dags/{quote(ti_key.dag_id, safe='')}/runs/{quote(ti_key.run_id, safe='')}"
        return f"{_base_url()}/wan{run}/tasks/{quote(ti_key.task_id, safe='')}/{ti_key.map_index}/sheet"
