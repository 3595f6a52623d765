# SPDX-License-Identifier: Apache-2.0
"""The operator that makes a dataset of clips."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_wan.api.errors import WanError, WanValidationError
from airflow_provider_wan.links.wan import WanSheetLink
from airflow_provider_wan.operators.arguments import count_of, seconds_of, switch_of
from airflow_provider_wan.polling.schedule import SETTLE_SECONDS
from airflow_provider_wan.triggers.kill import ON_KILL_SECONDS, CancelPolicy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.batch.results import Summary
    from airflow_provider_wan.batch.state import State
    from airflow_provider_wan.hooks.wan import WanHook
    from airflow_provider_wan.triggers.wan_batch import WanI2VBatchTrigger

# How much later than the trigger's own end Airflow's time-out comes, as a backstop.
BACKSTOP = timedelta(minutes=5)
# A clip that has ended wakes the task after so many seconds, although it is alone.
MAX_AGE = 300.0


class WanI2VBatchOperator(BaseOperator):
    """
    Turns a dataset of images into clips: one task, a window over the rows, each clip paid for once.

    What was made, or is under way, is remembered in the ledger, clip by clip: a retry, a clear, a killed worker or
    another run goes on from there. Rows that can't be made into a clip are set aside with their reasons, and the others
    go on.

    :param manifest: the rows: a list of mappings or of image addresses; the address of a ``.jsonl``, ``.csv`` or
        ``.parquet`` on S3 or a shared disk; or an ``s3://`` prefix that ends in ``/``, for every image below it
        (templated, as all down to ``dry_run``). A row has a column ``image``, may have ``name``, ``audio_url`` and one
        for each of the fields below.
    :param output_prefix: ``s3://bucket/prefix/`` for the clips, the results and the contact sheet.
    :param rows: the first and the last row of the manifest that this task is for, counted from 1; default: all.
    :param prompt: for rows that have none; likewise all down to ``model``.
    :param negative_prompt: what must not be seen.
    :param audio_url: sound for all.
    :param resolution: ``720P`` or ``1080P``.
    :param duration: seconds of video: the integer 5, 10 or 15.
    :param prompt_extend: let the service elaborate the prompt.
    :param shot_type: ``single`` or ``multi``.
    :param audio: generate audio where there is none.
    :param watermark: put the service's watermark on the clips.
    :param seed: 0-2147483647; without one, each submission draws its own.
    :param model: the model id; default: the connection's.
    :param wan_conn_id: id of a connection of type ``wan``.
    :param aws_conn_id: the AWS connection, for images, clips and ledger.
    :param ledger_uri: where it is remembered what was paid for; default: ``[wan] ledger_uri``, or else
        ``<output_prefix>/_ledger``.
    :param reuse: ``run``: the same content is paid for once a dag run; ``content``: once for all that share the ledger;
        ``never``: once a task instance.
    :param force_new: make the clips again, once: in this dag run (True), or for this text.
    :param max_cost: US dollars for the whole task, all its tries together; what would exceed it is not submitted.
    :param dry_run: only estimate: rows, seconds of video, cost, what the ledger has, time. Nothing is sent.
    :param fit: ``resize`` adapts images that break a rule of the API, ``error`` rejects their rows.
    :param delivery: how the API comes to images that lie in S3 or on a disk: ``presign`` or ``upload``.
    :param expires_in: lifetime of presigned URLs, in seconds or as a timedelta; default: 6 hours.
    :param max_in_flight: the most clips that are under way at once. Twice what the account may run at once keeps the
        service busy; a 429 or 503 halves it for a while.
    :param submits_per_second: the most submissions a second.
    :param poll_interval: seconds between looks.
    :param deferrable: wait in the triggerer, and come back in waves; default: Airflow's ``default_deferrable``.
    :param timeout: how long a try may take, in seconds or as a timedelta. What is under way then is left to go on, and
        the next try picks it up.
    :param item_timeout: how long a clip may be under way.
    :param cancel_policy: what happens when a user kills the task: ``queued`` cancels what has not begun, ``always``
        everything, ``never`` nothing.
    :param on_item_failure: ``continue``: go on with the other rows; ``fail_fast``: submit nothing more, archive what is
        under way, and fail.
    :param max_failed_fraction: how many of the rows may be without a clip, from 0 to 1, for the task to succeed.
    :return: ``items``, ``archived``, ``reused``, ``duplicate``, ``rejected``, ``failed``, ``in_doubt``, ``timeout``,
        ``lost``, ``left``, ``video_seconds``, ``cost`` (US dollars, all tries), ``elapsed`` (seconds), and the
        addresses ``folder``, ``results``, ``rejected_uri`` and ``sheet``; or the estimate.
    :raises AirflowFailException: where a retry would not help.
    :raises WanError: where it may.
    """

    template_fields: Sequence[str] = (
        "manifest",
        "output_prefix",
        "rows",
        "prompt",
        "negative_prompt",
        "audio_url",
        "resolution",
        "duration",
        "prompt_extend",
        "shot_type",
        "audio",
        "watermark",
        "seed",
        "model",
        "wan_conn_id",
        "aws_conn_id",
        "ledger_uri",
        "reuse",
        "force_new",
        "max_cost",
        "dry_run",
    )
    operator_extra_links = (WanSheetLink(),)
    ui_color = "#d9d2f2"

    def __init__(
        self,
        *,
        manifest: str | Sequence[Any],
        output_prefix: str,
        rows: Sequence[int] | None = None,
        prompt: str = "",
        negative_prompt: str = "",
        audio_url: str | None = None,
        resolution: str = "1080P",
        duration: int = 5,
        prompt_extend: bool = True,
        shot_type: str = "single",
        audio: bool = True,
        watermark: bool = False,
        seed: int | None = None,
        model: str | None = None,
        wan_conn_id: str = "wan_default",
        aws_conn_id: str | None = "aws_default",
        ledger_uri: str | None = None,
        reuse: Literal["run", "content", "never"] = "run",
        force_new: bool | str = False,
        max_cost: float | None = None,
        dry_run: bool = False,
        fit: Literal["resize", "error"] = "resize",
        delivery: Literal["presign", "upload"] = "presign",
        expires_in: timedelta | int | None = None,
        max_in_flight: int = 20,
        submits_per_second: float = 2.0,
        poll_interval: timedelta | float = 10,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: timedelta | float = 86400,
        item_timeout: timedelta | float = 7200,
        cancel_policy: Literal["queued", "always", "never"] = "queued",
        on_item_failure: Literal["continue", "fail_fast"] = "continue",
        max_failed_fraction: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if "outlets" not in kwargs and (asset := asset_of(output_prefix)) is not None:
            kwargs["outlets"] = [asset]
        super().__init__(**kwargs)
        self.manifest = manifest
        self.output_prefix = output_prefix
        self.rows = rows
        self.prompt = prompt
        self.negative_prompt = negative_prompt
        self.audio_url = audio_url
        self.resolution = resolution
        self.duration = duration
        self.prompt_extend = prompt_extend
        self.shot_type = shot_type
        self.audio = audio
        self.watermark = watermark
        self.seed = seed
        self.model = model
        self.wan_conn_id = wan_conn_id
        self.aws_conn_id = aws_conn_id
        self.ledger_uri = ledger_uri
        self.reuse = reuse
        self.force_new = force_new
        self.max_cost = max_cost
        self.dry_run = dry_run  # type: ignore[method-assign, assignment]
        self.fit = _one_of("fit", fit, ("resize", "error"))
        self.delivery = _one_of("delivery", delivery, ("presign", "upload"))
        self.lifetime = None if expires_in is None else int(seconds_of("expires_in", expires_in))
        self.max_in_flight = count_of("max_in_flight", max_in_flight)
        self.submits_per_second = seconds_of("submits_per_second", submits_per_second)
        self.poll_interval = seconds_of("poll_interval", poll_interval)
        self.deferrable = deferrable
        self.timeout = seconds_of("timeout", timeout)
        self.item_timeout = seconds_of("item_timeout", item_timeout)
        self.cancel_policy = _one_of("cancel_policy", cancel_policy, tuple(CancelPolicy))
        self.on_item_failure = _one_of("on_item_failure", on_item_failure, ("continue", "fail_fast"))
        if isinstance(max_failed_fraction, bool) or not 0 <= max_failed_fraction <= 1:
            raise WanValidationError("max_failed_fraction", max_failed_fraction, "must be a number from 0 to 1")
        self.max_failed_fraction = max_failed_fraction
        self._state: State | None = None
        self._summary: Summary | None = None

    @cached_property
    def hook(self) -> WanHook:
        """The hook of this task's connection."""
        from airflow_provider_wan.hooks.wan import WanHook

        return WanHook(self.wan_conn_id)

    @cached_property
    def s3(self) -> Any:
        """A boto3 S3 client, for all threads."""
        from airflow_provider_wan.operators.batch_setup import CONNECTIONS
        from airflow_provider_wan.operators.s3 import signing_client

        return signing_client(self.aws_conn_id, connections=CONNECTIONS)

    def upload(self, data: bytes, file_type: str) -> str:
        """Send an image through the API's upload call, on a connection of the calling thread's own."""
        from airflow_provider_wan.api.client import WanClient

        client = WanClient(self.hook.config)
        try:
            return client.upload(data, file_type)
        finally:
            client.close()

    def execute(self, context: Context) -> Any:
        """Begin a try."""
        from airflow_provider_wan.operators.batch_setup import quote_of, setup_of

        try:
            if switch_of("dry_run", self.dry_run):
                told = quote_of(self, context)
                self.log.info("%s", told)
                return told.as_result()
            from airflow_provider_wan.batch.state import State

            now = time.time()
            state = State(setup_of(self, context), now)
            state.begin(now + self.timeout, now)
            return self._run(context, state)
        except WanError as error:
            self._fail(error)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Do the next wave: the trigger tells that there is something to do, and the journal where it was."""
        from airflow_provider_wan.batch.state import State
        from airflow_provider_wan.operators.batch_setup import setup_of

        try:
            self.log.info("Woken (%s): %s of the clips under way have ended", event.get("status"), event.get("ended"))
            now = time.time()
            state = State(setup_of(self, context), now)
            if not state.resume(now):
                state.begin(float(event.get("end_time") or now + self.timeout), now)
            return self._run(context, state)
        except WanError as error:
            self._fail(error)

    def on_kill(self) -> None:
        """Cancel as the policy says, where the task works in the worker."""
        policy, state = CancelPolicy(self.cancel_policy), self._state
        if policy is CancelPolicy.NEVER or state is None:
            return
        until, taken = time.monotonic() + ON_KILL_SECONDS, 0
        for running in list(state.plan.running.values()):
            if time.monotonic() > until:
                break
            try:
                if policy.applies_to(self.hook.get_request(running.request_id)):
                    taken += self.hook.cancel(running.request_id)
            except WanError as error:
                self.log.warning("Request %s is left alone: %s", running.request_id, error)
        self.log.info(
            "Of %d clips under way the API took the cancellation of %d; a retry picks the others up",
            len(state.plan.running),
            taken,
        )

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Name what was read and what was written."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        from airflow_provider_wan.operators.batch_lineage import datasets

        read, written = datasets(
            self.manifest, self.output_prefix, None if self._summary is None else self._summary.folder
        )
        return OperatorLineage(
            inputs=[Dataset(namespace=space, name=name) for space, name in read],
            outputs=[Dataset(namespace=space, name=name) for space, name in written],
        )

    def _run(self, context: Context, state: State) -> Any:
        from airflow_provider_wan.batch.engine import Engine
        from airflow_provider_wan.batch.finish import finish

        # Before anything is paid for: that it can be waited for.
        json.dumps(self._trigger(["0" * 36] * self.max_in_flight, state.end_time, None, 1).serialize())
        self._state = state
        self._link(context, state.setup.journal.uri)
        with Engine(state) as engine:
            waiting = engine.run(waves=self.deferrable)
        if waiting is not None:
            self._defer(state, waiting.request_ids, waiting.wake_at)
        self._state = None
        self._summary, problem = finish(state, time.time(), max_failed_fraction=self.max_failed_fraction)
        result = self._summary.as_result()
        self.log.info("%s", json.dumps(result))
        if problem is not None:
            raise problem
        self._tell_assets(context, result)
        return result

    def _defer(self, state: State, request_ids: Sequence[str], wake_at: float | None) -> None:
        from airflow_provider_wan.batch.plan import wake_after

        enough = wake_after(len(request_ids))
        self.log.info("%d clips are under way: waiting until %d of them have ended", len(request_ids), enough)
        self.defer(
            trigger=self._trigger(request_ids, state.end_time, wake_at, enough),
            method_name="execute_complete",
            timeout=timedelta(seconds=max(0.0, state.end_time - time.time())) + BACKSTOP,
        )

    def _trigger(
        self, request_ids: Sequence[str], end_time: float, wake_at: float | None, enough: int
    ) -> WanI2VBatchTrigger:
        from airflow_provider_wan.triggers.wan_batch import WanI2VBatchTrigger

        return WanI2VBatchTrigger(
            request_ids=request_ids,
            end_time=end_time,
            wake_after=enough,
            wake_at=wake_at,
            max_age=MAX_AGE,
            wan_conn_id=self.wan_conn_id,
            poll_interval=self.poll_interval,
            not_before=time.time() + SETTLE_SECONDS,
            cancel_policy=self.cancel_policy,
        )

    def _link(self, context: Context, folder: str) -> None:
        from airflow_provider_wan.operators.batch_lineage import console_url

        WanSheetLink.persist(context, console_url(f"{folder}sheet.html", self.s3.meta.endpoint_url))

    def _tell_assets(self, context: Context, result: Mapping[str, Any]) -> None:
        from airflow.sdk import Asset, AssetAlias

        told: dict[str, Any] = {"wan": {"output_prefix": self.output_prefix, **result}}
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra.update(told)
            elif isinstance(outlet, AssetAlias):
                prefix = Asset(uri=self.output_prefix, name=self.output_prefix)
                context["outlet_events"][outlet].add(prefix, extra=told)

    @staticmethod
    def _fail(error: WanError) -> None:
        from airflow_provider_wan.operators.outcome import fail

        fail(error)


def asset_of(output: Any) -> Any:
    """Return the asset of an output: its prefix, up to a template in it. None where that is no more than a bucket."""
    if not isinstance(output, str):
        return None
    static = output.split("{", 1)[0]
    prefix = static if static == output else static.rpartition("/")[0] + "/"
    if not prefix.startswith("s3://") or not prefix.removeprefix("s3://").partition("/")[2].strip("/"):
        return None
    from airflow.sdk import Asset

    return Asset(uri=prefix, name=prefix)


def _one_of(field: str, value: Any, allowed: Sequence[str]) -> Any:
    if value not in allowed:
        raise WanValidationError(field, value, f"must be one of {', '.join(allowed)}")
    return value
