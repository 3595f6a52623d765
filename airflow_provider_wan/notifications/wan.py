# SPDX-License-Identifier: Apache-2.0
"""A notifier that reports the clips of a run: how many, what they cost, and where they are in Airflow's UI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseNotifier, conf

from airflow_provider_wan.links.wan import build_run_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class WanRunNotifier(BaseNotifier):
    """Report the clips of a run.

    It writes to the log. To send the message elsewhere, override :meth:`send`. It is a callback of a task, or, without
    ``task_ids``, of a Dag or a deadline.

    :param text: first words of the message (templated).
    :param task_ids: tasks whose clips are counted, by their results; they need the callback of a task (templated).
    :param context: Airflow's context, where Airflow passes it at once.
    """

    template_fields: Sequence[str] = ("text", "task_ids")

    def __init__(
        self, *, text: str = "Clips", task_ids: Sequence[str] | str = (), context: Context | None = None
    ) -> None:
        # Before Airflow 3.1.1 the base class takes no context.
        super().__init__()
        self.context = context if context is not None else {}
        self.text = text
        self.task_ids = task_ids

    def notify(self, context: Context) -> None:
        """Send the message.

        :param context: Airflow's context.
        """
        self.send(self.build_message(context))

    async def async_notify(self, context: Context) -> None:
        """Send the message from the triggerer, as the callback of a deadline does.

        :param context: Airflow's context.
        """
        from asgiref.sync import sync_to_async

        # In a thread from which connections can be loaded, as what is sent may take a while.
        await sync_to_async(self.send)(self.build_message(context))

    def send(self, message: str) -> None:
        """Write the message to the log.

        :param message: text, cost and address.
        """
        self.log.info("%s", message)

    def build_message(self, context: Context) -> str:
        """Return the message: text, number of clips, cost, and the address of the run's clips.

        :param context: Airflow's context.
        """
        run: Any = context["dag_run"]
        # The callback of a deadline gets the run as Airflow's API describes it.
        dag_id, run_id = (run["dag_id"], run["dag_run_id"]) if isinstance(run, Mapping) else (run.dag_id, run.run_id)
        address = f"{str(conf.get('api', 'base_url', fallback='')).rstrip('/')}{build_run_path(dag_id, run_id)}"
        if not self.task_ids:
            return f"{self.text}: {address}"
        task_ids = [self.task_ids] if isinstance(self.task_ids, str) else list(self.task_ids)
        results = list(_find_results(context["ti"].xcom_pull(task_ids=task_ids)))
        clips = sum(int(result["archived"]) if "archived" in result else 1 for result in results)
        cost = sum(float(result["cost"] or 0.0) for result in results)
        return f"{self.text}: {clips} clips, ${cost:.2f}: {address}"


def _find_results(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the results of clips and batches, of mapped tasks too, without the estimates of dry runs."""
    if isinstance(value, Mapping):
        if "cost" in value and not value.get("dry_run"):
            yield value
    elif value is not None and not isinstance(value, str):
        for each in value:
            yield from _find_results(each)
