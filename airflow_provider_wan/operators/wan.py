# SPDX-License-Identifier: Apache-2.0
"""The operator that makes one clip."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator, conf, mask_secret

from airflow_provider_wan.api.errors import WanError, WanLookupError, WanResultGoneError, WanValidationError
from airflow_provider_wan.api.record import RequestStatus
from airflow_provider_wan.api.redaction import url_query
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.links.wan import WanRequestLink
from airflow_provider_wan.operators import ledger_context
from airflow_provider_wan.operators.arguments import parse_seconds, parse_usd
from airflow_provider_wan.operators.media_ref import MediaRef
from airflow_provider_wan.operators.task_result import build_error, clip_result, fail_task
from airflow_provider_wan.polling.decision import PollTarget, WaitStatus
from airflow_provider_wan.triggers.cancellation import CancelPolicy
from airflow_provider_wan.triggers.deferral import MIN_DEFERRAL_SECONDS, deferral_timeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.api.record import RequestRecord
    from airflow_provider_wan.hooks.wan import WanHook
    from airflow_provider_wan.ledger import LedgerEntry, SubmitResult, Submitter
    from airflow_provider_wan.triggers.wan import WanI2VTrigger

# How much later than the trigger's own end Airflow's time-out comes, as a backstop.


class WanI2VOperator(BaseOperator):
    """
    Turns an image into a video clip, and pays for it once.

    A retry, a clear, a second worker or a lost answer does not pay again: what was submitted is remembered
    in a ledger and picked up. See the documentation, *What the next attempt does*.

    :param img_url: http(s) URL of the image, or the result of
        :class:`~airflow_provider_wan.transfers.s3_to_wan.S3ToWanOperator` (templated, as all down to ``model``).
    :param prompt: what happens in the clip; at most 1500 characters.
    :param negative_prompt: what must not be seen; at most 500 characters.
    :param audio_url: wav or mp3 of 3-30 s: http(s) URL, or the result of ``S3ToWanOperator(kind="audio")``.
    :param resolution: ``720P`` or ``1080P``.
    :param duration: seconds of video: the integer 5, 10 or 15.
    :param prompt_extend: let the service elaborate the prompt.
    :param shot_type: ``single`` or ``multi``.
    :param audio: generate audio where ``audio_url`` is not set.
    :param watermark: put the service's watermark on the clip.
    :param seed: 0-2147483647; without one, each submission draws its own.
    :param model: the model id; default: the connection's.
    :param wan_conn_id: id of a connection of type ``wan``.
    :param deferrable: wait in the triggerer; default: Airflow's ``default_deferrable``.
    :param timeout: how long an attempt waits for the clip, in seconds or as a timedelta. The request is not
        cancelled by it: the next attempt picks it up.
    :param poll_interval: seconds between looks.
    :param cancel_policy: what happens when a user kills the task: ``queued`` cancels what has not begun,
        ``always`` everything, ``never`` nothing.
    :param ledger_uri: where it is remembered what was paid for: ``s3://bucket/prefix`` or
        ``file:///folder``; default: ``[wan] ledger_uri``, or else Airflow's task state store (from 3.3 on).
    :param aws_conn_id: the AWS connection for a ledger on S3.
    :param reuse: ``run``: the same content is paid for once a dag run; ``content``: once for all that share
        the ledger; ``never``: once a task instance.
    :param force_new: make the clip again, once: in this dag run (True), or for this text. ``force_new`` in
        the dag run's conf does the same.
    :param on_doubt: ``reconcile``: find a submission whose answer was lost in the API's list; ``fail``: stop.
    :param max_cost: US dollars; a clip that would cost more is refused before it is paid for.
    :return: ``{"request_id", "status", "video_url", "thumbnail_url", "fingerprint", "seconds", "resolution",
        "model", "seed", "cost", "archive_uri", "ledger_uri"}``; ``seconds`` is the clip's length, ``cost`` in US
        dollars. Where the ledger knows the clip as archived, ``video_url`` is None: use ``archive_uri``.
    :raises AirflowFailException: where a retry would not help.
    :raises WanError: where it may; which one says whether anything was paid.
    """

    template_fields: Sequence[str] = (
        "img_url",
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
        "ledger_uri",
        "aws_conn_id",
        "reuse",
        "force_new",
        "max_cost",
    )
    operator_extra_links = (WanRequestLink(),)
    ui_color = "#e7e3f6"

    def __init__(
        self,
        *,
        img_url: str | Mapping[str, Any],
        prompt: str = "",
        negative_prompt: str = "",
        audio_url: str | Mapping[str, Any] | None = None,
        resolution: str = "1080P",
        duration: int = 5,
        prompt_extend: bool = True,
        shot_type: str = "single",
        audio: bool = True,
        watermark: bool = False,
        seed: int | None = None,
        model: str | None = None,
        wan_conn_id: str = "wan_default",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        timeout: timedelta | float = 3600,
        poll_interval: timedelta | float = 10,
        cancel_policy: Literal["queued", "always", "never"] = "queued",
        ledger_uri: str | None = None,
        aws_conn_id: str | None = "aws_default",
        reuse: Literal["run", "content", "never"] = "run",
        force_new: bool | str = False,
        on_doubt: Literal["reconcile", "fail"] = "reconcile",
        max_cost: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.img_url = img_url
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
        self.deferrable = deferrable
        self.timeout = parse_seconds("timeout", timeout)
        self.poll_interval = parse_seconds("poll_interval", poll_interval)
        if cancel_policy not in tuple(CancelPolicy):
            raise WanValidationError("cancel_policy", cancel_policy, f"must be one of {', '.join(CancelPolicy)}")
        self.cancel_policy = cancel_policy
        self.ledger_uri = ledger_uri
        self.aws_conn_id = aws_conn_id
        self.reuse = reuse
        self.force_new = force_new
        if on_doubt not in ("reconcile", "fail"):
            raise WanValidationError("on_doubt", on_doubt, "must be 'reconcile' or 'fail'")
        self.on_doubt = on_doubt
        self.max_cost = max_cost
        self._waits_for: str | None = None

    @cached_property
    def hook(self) -> WanHook:
        """The hook of this task's connection."""
        from airflow_provider_wan.hooks.wan import WanHook

        return WanHook(self.wan_conn_id)

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Render, and mask what is secret in URLs before Airflow shows the rendered fields."""
        super().render_template_fields(context, jinja_env)
        for value in (self.img_url, self.audio_url):
            url = value.get("url") if isinstance(value, Mapping) else value
            if query := url_query(url):
                mask_secret(query)

    def execute(self, context: Context) -> Any:
        """Submit, or pick up what was submitted before; then wait, deferred or here."""
        try:
            end_time = time.time() + self.timeout
            held = self._ensure(context, end_time)
            return self._go_on(context, held, end_time)
        except WanError as error:
            fail_task(error)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Take up the trigger's event: look at the request anew, since events hold no result."""
        request_id, fingerprint = str(event["request_id"]), event.get("fingerprint")
        end_time = float(event.get("end_time") or 0.0)
        try:
            self._link(context, request_id)
            record = self.hook.get_request(request_id)
            entry = self._finish(context, fingerprint, record)
            if record.status.is_terminal:
                return self._result(record, entry, fingerprint)
            if event.get("status") == WaitStatus.ERROR:
                raise WanLookupError(
                    f"The triggerer could not look at request {request_id}: see its log. A retry picks it up."
                )
            if event.get("status") == WaitStatus.TIMEOUT or time.time() >= end_time:
                raise build_error(record, waited=f" after {self.timeout:.0f} s")
            self._defer(request_id, fingerprint, end_time, record)
        except WanError as error:
            fail_task(error)

    def on_kill(self) -> None:
        """Cancel as the policy says, where the task waits in the worker."""
        if self._waits_for is None:
            return
        try:
            record = self.hook.get_request(self._waits_for)
            if CancelPolicy(self.cancel_policy).applies_to(record):
                taken = self.hook.cancel(record.request_id)
                self.log.info("Request %s: asked to cancel it; taken: %s", record.request_id, taken)
        except WanError as error:
            self.log.warning("Request %s is left alone: %s", self._waits_for, error)

    def _ensure(self, context: Context, end_time: float) -> SubmitResult:
        from airflow_provider_wan.ledger import build_scope, compute_fingerprint

        config = self.hook.config
        image, audio = MediaRef.parse("img_url", self.img_url), MediaRef.parse("audio_url", self.audio_url)
        request = I2VRequest(
            img_url=image.url,
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            audio_url=audio.url if self.audio_url is not None else None,
            resolution=self.resolution,
            duration=self.duration,
            prompt_extend=self.prompt_extend,
            shot_type=self.shot_type,
            audio=self.audio,
            watermark=self.watermark,
            seed=self.seed,
            model=self.model or config.model,
        )
        ledger_uri = ledger_context.resolve_ledger_uri(self.ledger_uri)
        if self.reuse == "content" and ledger_uri is None:
            raise WanValidationError(
                "reuse",
                self.reuse,
                "needs a ledger that all runs share",
                "Set ledger_uri on the task, or for all as [wan] ledger_uri",
            )
        scope = build_scope(self.reuse, run=ledger_context.run_name(context), task=ledger_context.task_name(context))
        fingerprint = compute_fingerprint(
            request,
            scope=scope,
            image_sha256=image.sha256,
            audio_sha256=audio.sha256,
            force_token=ledger_context.resolve_force_token(context, self.force_new),
        )

        def before_pay(_: LedgerEntry) -> None:
            image.validate_lifetime()
            audio.validate_lifetime()
            json.dumps(self._trigger("0" * 36, fingerprint, end_time).serialize())

        image.warn_if_ambiguous(self.log)
        audio.warn_if_ambiguous(self.log)
        held = self._submission(context).submit_once(
            request,
            fingerprint=fingerprint,
            owner=ledger_context.build_owner(context),
            scope=scope,
            prices=config.prices,
            max_cost=parse_usd(self.max_cost),
            on_doubt=self.on_doubt,
            before_pay=before_pay,
            deadline=end_time,
        )
        entry = held.entry
        self.log.info(
            "Request %s %s: %s, %s s, estimated cost %s, fingerprint %s",
            entry.request_id,
            "submitted" if held.paid_now else "was submitted before; nothing is paid for it now",
            entry.resolution,
            entry.duration,
            "unknown" if entry.cost_estimate is None else f"${entry.cost_estimate:.2f}",
            fingerprint,
        )
        return held

    def _submission(self, context: Context) -> Submitter:
        from airflow_provider_wan.ledger import Submitter

        uri = ledger_context.resolve_ledger_uri(self.ledger_uri)
        return Submitter(self.hook.client, ledger_context.open_ledger(context, uri, self.aws_conn_id))

    def _go_on(self, context: Context, held: SubmitResult, end_time: float) -> Any:
        entry, record = held.entry, held.record
        request_id = str(entry.request_id)
        self._link(context, request_id)
        if record is None:
            return _result_of_archived(entry) | {"ledger_uri": ledger_context.resolve_ledger_uri(self.ledger_uri)}
        if record.status.is_terminal:
            finished = self._finish(context, entry.fingerprint, record)
            return self._result(record, finished or entry, entry.fingerprint)
        if self.deferrable:
            self._defer(request_id, entry.fingerprint, end_time, record)
        record = self._wait_here(record, end_time)
        finished = self._finish(context, entry.fingerprint, record)
        if not record.status.is_terminal:
            raise build_error(record, waited=f" after {self.timeout:.0f} s")
        return self._result(record, finished or entry, entry.fingerprint)

    def _trigger(
        self, request_id: str, fingerprint: str | None, end_time: float, submitted_at: float | None = None
    ) -> WanI2VTrigger:
        from airflow_provider_wan.triggers.wan import WanI2VTrigger

        return WanI2VTrigger(
            request_id=request_id,
            end_time=end_time,
            wan_conn_id=self.wan_conn_id,
            poll_interval=self.poll_interval,
            not_before=time.time() + MIN_DEFERRAL_SECONDS,
            cancel_policy=self.cancel_policy,
            fingerprint=fingerprint,
            resolution=self.resolution,
            duration=self.duration,
            submitted_at=submitted_at,
        )

    def _defer(self, request_id: str, fingerprint: str | None, end_time: float, record: RequestRecord) -> None:
        self.defer(
            trigger=self._trigger(request_id, fingerprint, end_time, record.created_at),
            method_name="execute_complete",
            timeout=deferral_timeout(end_time),
        )

    def _wait_here(self, record: RequestRecord, end_time: float) -> RequestRecord:
        """Wait in the worker, as the trigger does. :raises WanError: where looking does not help."""
        request_id = record.request_id
        target = PollTarget(
            request_id,
            end_time,
            not_before=0.0,
            poll_interval=self.poll_interval,
            resolution=self.resolution,
            duration=self.duration,
            submitted_at=record.created_at,
        )
        self._waits_for = request_id
        outcome = self.hook.wait_sync(target, lambda status: self.log.info("Request %s is %s", request_id, status))
        if isinstance(outcome.last_result, WanError):
            raise outcome.last_result
        if outcome.last_result is None:
            return self.hook.get_request(request_id)
        if outcome.last_result.status.is_terminal:
            self._waits_for = None
        return outcome.last_result

    def _finish(self, context: Context, fingerprint: str | None, record: RequestRecord) -> LedgerEntry | None:
        if fingerprint is None:
            return None
        return self._submission(context).ledger.record_result(fingerprint, record)

    def _result(self, record: RequestRecord, entry: LedgerEntry | None, fingerprint: str | None) -> dict[str, Any]:
        if record.status is not RequestStatus.SUCCESS:
            raise build_error(record, outcome=entry.outcome if entry else None)
        if record.created_at and record.updated_at:
            self.log.info(
                "Request %s took %.0f s at the service", record.request_id, record.updated_at - record.created_at
            )
        resolution = entry.resolution if entry else self.resolution
        seconds = entry.duration if entry else self.duration
        return clip_result(
            record,
            fingerprint=fingerprint,
            seconds=seconds,
            resolution=resolution,
            model=entry.model if entry else self.model,
            seed=entry.seed if entry else self.seed,
            cost=self.hook.config.cost(resolution, seconds),
            archive_uri=entry.archive_uri if entry else None,
            ledger_uri=ledger_context.resolve_ledger_uri(self.ledger_uri),
        )

    def _link(self, context: Context, request_id: str) -> None:
        WanRequestLink.persist(context, f"{self.hook.config.base_url}/requests/{request_id}")


def _result_of_archived(entry: LedgerEntry) -> dict[str, Any]:
    if not entry.archive_uri:
        raise WanResultGoneError(
            f"Request {entry.request_id} was finished and paid for, but the API knows it no more and the ledger "
            "names no archive of it. If WanToS3Operator archived it, it still lies there, and only this task can't "
            "tell; else force_new makes the clip again, for its price."
        )
    return {
        "request_id": entry.request_id,
        "status": RequestStatus.SUCCESS.value,
        "video_url": None,
        "thumbnail_url": None,
        "fingerprint": entry.fingerprint,
        "seconds": entry.duration,
        "resolution": entry.resolution,
        "model": entry.model,
        "seed": entry.seed,
        "cost": entry.cost,
        "archive_uri": entry.archive_uri,
    }
