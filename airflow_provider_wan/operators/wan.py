# SPDX-License-Identifier: Apache-2.0
"""The operator that makes one clip."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import mask_secret

from airflow_provider_wan.api.errors import (
    WanBudgetError,
    WanError,
    WanResultGoneError,
    WanResultRefusedError,
    WanValidationError,
)
from airflow_provider_wan.api.record import RequestRecord, RequestStatus
from airflow_provider_wan.api.redaction import find_prompts, register_prompt, url_query
from airflow_provider_wan.api.request import (
    MEDIA_ARGUMENTS,
    PROMPT_PARAMETERS,
    RawRequest,
    WanRequest,
    build_clip_request,
)
from airflow_provider_wan.links.wan import WanClipsLink
from airflow_provider_wan.operators import ledger_context
from airflow_provider_wan.operators.arguments import parse_clip_field, parse_seconds, parse_usd
from airflow_provider_wan.operators.assets import emit_asset_events
from airflow_provider_wan.operators.base import CLIP_FIELDS, WanClipBaseOperator, find_texts, mask_query
from airflow_provider_wan.operators.media_ref import MediaRef
from airflow_provider_wan.operators.task_result import (
    build_clip_extra,
    build_error,
    build_timeout_error,
    clip_result,
    fail_task,
)
from airflow_provider_wan.polling.decision import PollTarget, WaitStatus
from airflow_provider_wan.traces import record_span
from airflow_provider_wan.triggers.cancellation import CancelPolicy
from airflow_provider_wan.triggers.deferral import (
    MIN_DEFERRAL_SECONDS,
    compute_end_time,
    deferral_timeout,
    may_defer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.ledger import LedgerEntry, SubmitResult, Submitter
    from airflow_provider_wan.media.archive import ClipArchive
    from airflow_provider_wan.triggers.wan import WanI2VTrigger


class WanI2VOperator(WanClipBaseOperator):
    """Turn an image into a video clip, and pay for it once.

    A retry, a clear, a second worker or a lost response does not pay again: the ledger records what was submitted,
    and the next attempt resumes it. See the documentation, *What the next attempt does*.

    All other arguments are those of :class:`~airflow_provider_wan.operators.base.WanClipBaseOperator` and
    :class:`~airflow_provider_wan.operators.base.WanBaseOperator`.

    :param img_url: http(s) URL of the image, or the result of
        :class:`~airflow_provider_wan.transfers.s3_to_wan.S3ToWanOperator` (templated).
    :param last_frame: for ``wan2.7-i2v``: http(s) URL of the image with which the clip ends, or the result of
        S3ToWanOperator (templated).
    :param first_clip: for ``wan2.7-i2v``: likewise of a video that the clip continues (templated).
    :param timeout: how long an attempt waits for the clip, in seconds or as a timedelta. The request is not cancelled
        then: the next attempt resumes it.
    :param on_doubt: what to do about a submission whose response was lost: ``reconcile`` searches the API's list for
        it; ``fail`` stops.
    :returns: ``{"request_id", "status", "video_url", "thumbnail_url", "fingerprint", "seconds", "resolution",
        "model", "seed", "cost", "cost_at_payment", "reused", "archive_uri", "ledger_uri"}``; ``seconds`` is the
        clip's length. ``cost`` is in US dollars, by the price at the payment; it is 0 if the clip was ``reused``: then
        another task paid ``cost_at_payment`` for it. If the ledger says that the clip is archived, and it is there,
        ``video_url`` is None: use ``archive_uri``. If it is no longer there, ``video_url`` is the API's copy, and a
        :class:`~airflow_provider_wan.transfers.wan_to_s3.WanToS3Operator` archives it anew.
    :raises AirflowFailException: if a retry cannot help.
    :raises WanError: if a retry can help. Its class says whether anything was paid.
    """

    template_fields: Sequence[str] = ("img_url", "last_frame", "first_clip", *WanClipBaseOperator.template_fields)
    operator_extra_links = (WanClipsLink(),)
    ui_color = "#e7e3f6"

    def __init__(
        self,
        *,
        img_url: str | Mapping[str, Any],
        last_frame: str | Mapping[str, Any] | None = None,
        first_clip: str | Mapping[str, Any] | None = None,
        timeout: timedelta | float = 3600,
        on_doubt: Literal["reconcile", "fail"] = "reconcile",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.img_url = img_url
        self.last_frame = last_frame
        self.first_clip = first_clip
        self.timeout = parse_seconds("timeout", timeout)
        if on_doubt not in ("reconcile", "fail"):
            raise WanValidationError("on_doubt", on_doubt, "must be 'reconcile' or 'fail'")
        self.on_doubt = on_doubt
        self._waiting_for: str | None = None
        self._result: dict[str, Any] | None = None
        self._may_cancel = False

    @cached_property
    def archive(self) -> ClipArchive:
        """The clips on the S3 of the AWS connection."""
        return self._build_archive(replace_existing=False)

    def _build_archive(self, *, replace_existing: bool) -> ClipArchive:
        from airflow_provider_wan.media.archive import ClipArchive
        from airflow_provider_wan.media.fetch import ResultHosts

        return ClipArchive(self.s3, ResultHosts.from_config(self.hook.config), replace=replace_existing)

    def _mask_secrets(self) -> None:
        for value in (getattr(self, name) for name in MEDIA_ARGUMENTS):
            url = value.get("url") if isinstance(value, Mapping) else value
            if query := url_query(url):
                mask_secret(query)

    def execute(self, context: Context) -> Any:
        """Submit the request, or resume the one that was submitted before; then wait for it.

        :param context: Airflow's context.
        """
        try:
            end_time = compute_end_time(self.timeout, self.execution_timeout)
            self.hook.client.deadline = end_time
            submit_result = self._submit_once(context, end_time)
            result = self._wait_for_result(context, submit_result, end_time)
        except WanError as error:
            fail_task(error, getattr(self, "retry_policy", None))
        return self._finish(context, result)

    def _register_prompts(self) -> None:
        """Remember the prompts, to be taken out of what the API says: this process has built no request."""
        register_prompt(self.prompt)
        register_prompt(self.negative_prompt)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Process the trigger's event. It holds no result, so the request is polled again.

        :param context: Airflow's context.
        :param event: payload of the trigger's event.
        """
        request_id, fingerprint = str(event["request_id"]), event.get("fingerprint")
        end_time = float(event.get("end_time") or 0.0)
        self._register_prompts()
        try:
            self.hook.client.deadline = end_time
            result: RequestRecord | WanError | None = self._get_last_result(request_id)
            over = event.get("status") == WaitStatus.TIMEOUT or time.time() >= end_time
            if not over and not (isinstance(result, RequestRecord) and result.is_final):
                self._may_cancel = self._is_own_clip(context, fingerprint)
            if not over and isinstance(result, RequestRecord) and not result.status.is_terminal:
                if event.get("status") != WaitStatus.ERROR:
                    self._defer(request_id, fingerprint, end_time, result)
                self.log.warning("The triggerer can't poll request %s, see its log: polling here", request_id)
            if not over and not (isinstance(result, RequestRecord) and result.is_final):
                result = self._wait_sync(request_id, end_time)
            clip = self._build_last_result(context, request_id, fingerprint, result)
        except WanError as error:
            fail_task(error, getattr(self, "retry_policy", None))
        return self._finish(context, clip)

    def on_kill(self) -> None:
        """Apply the cancel policy while the task waits in the worker. A clip of another task is never cancelled."""
        if self._waiting_for is None:
            return
        if not self._may_cancel:
            self.log.info("Request %s is not cancelled: another task has paid for it", self._waiting_for)
            return
        try:
            record = self.hook.get_request(self._waiting_for)
            if CancelPolicy(self.cancel_policy).applies_to(record):
                accepted = self.hook.cancel(record.request_id)
                self.log.info("Request %s: cancellation requested; accepted: %s", record.request_id, accepted)
        except WanError as error:
            self.log.warning("Request %s is not cancelled: %s", self._waiting_for, error)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the inputs and outputs for OpenLineage: from the files to the request.

        :param task_instance: Airflow's task instance.
        """
        from airflow_provider_wan.operators.lineage import build_lineage, name_request

        request_id = (self._result or {}).get("request_id")
        request = name_request(self.hook.config.base_url, request_id) if request_id else None
        return build_lineage(self._list_sources(), [request], self._result)

    def _list_sources(self, names: Iterable[str] = MEDIA_ARGUMENTS) -> list[str | None]:
        """Return the URIs of the clip's files.

        :param names: arguments that name them.
        """
        media = (MediaRef.parse(name, parse_clip_field(name, getattr(self, name))) for name in names)
        return [each.source_uri or each.url for each in media if each.url]

    def _finish(self, context: Context, result: dict[str, Any]) -> dict[str, Any]:
        """Report a finished clip to assets and lineage.

        :param context: Airflow's context.
        :param result: result of the task.
        """
        self._result = result
        if self.outlets:
            prefix = str(result["uri"]).rpartition("/")[0] if result.get("uri") else self.hook.config.base_url
            emit_asset_events(context, self, f"{prefix}/", build_clip_extra(result))
        return result

    def _submit_once(self, context: Context, end_time: float) -> SubmitResult:
        from airflow_provider_wan.ledger import build_scope, compute_fingerprint
        from airflow_provider_wan.ledger.fingerprint import parse_idempotency_key

        config = self.hook.config
        request, media = self._build_request()
        image = media[0] if media else None
        submitter = self._open_submitter()
        scope = build_scope(self.reuse, run=ledger_context.run_name(context))
        fingerprint = compute_fingerprint(
            request,
            scope=scope,
            media_sha256={each.field: each.sha256 for each in media if each.sha256 is not None},
            idempotency_key=parse_idempotency_key(self.idempotency_key),
        )

        owner = ledger_context.build_owner(context)
        reference = ledger_context.build_reference(context, image.source_uri if image else None)
        max_cost = parse_usd(self.max_cost)

        unprobed = [each for each in media if self.probe_urls and each.is_unread_url]

        def before_pay(claim: LedgerEntry) -> None:
            check_max_cost(claim, max_cost)
            self._check_claim(claim)
            for each in media:
                each.validate_lifetime()
            while unprobed:
                self._probe_url(unprobed[-1], end_time)
                unprobed.pop()
            # Fails before anything is paid for if the trigger cannot be serialized.
            json.dumps(self._build_trigger("0" * 36, fingerprint, end_time).serialize())

        for each in media:
            each.warn_if_ambiguous(self.log)
        ledger_context.publish_ledger_uri(context, ledger_context.resolve_ledger_uri(self.ledger_uri))
        with record_span("wan.submit", fingerprint=fingerprint, model=request.model) as set_attributes:
            submit_result = submitter.submit_once(
                request,
                fingerprint=fingerprint,
                owner=owner,
                scope=scope,
                prices=config.get_limit_prices(max_cost),
                max_cost=max_cost,
                on_doubt=self.on_doubt,
                before_pay=before_pay,
                deadline=end_time,
                reference=reference,
            )
            set_attributes(
                request_id=submit_result.entry.request_id,
                paid=submit_result.paid_now,
                estimate=submit_result.entry.cost_estimate,
            )
        submitter.ledger.record_reuse(submit_result.entry, owner, reference)
        entry = submit_result.entry
        self.log.info(
            "Request %s %s: %s, %s s, estimated cost %s, fingerprint %s",
            entry.request_id,
            "submitted" if submit_result.paid_now else "was submitted before; nothing is paid for it now",
            entry.resolution,
            entry.duration,
            "unknown" if entry.cost_estimate is None else f"${entry.cost_estimate:.2f}",
            fingerprint,
        )
        return submit_result

    def _probe_url(self, ref: MediaRef, end_time: float) -> None:
        from airflow_provider_wan.media.url_probe import KINDS, UrlProbe

        probe = UrlProbe(self.hook.config.base_url, self.hook.config.network)
        probe.check(ref.field, ref.url, KINDS[ref.field], end_time)

    def _check_claim(self, claim: LedgerEntry) -> None:
        """Raise an error if a clip must not be paid for.

        :param claim: the claim that is about to be made.
        """

    def _build_request(self) -> tuple[WanRequest, tuple[MediaRef, ...]]:
        """Return the request, and its files, the image first."""
        media = tuple(MediaRef.parse(name, parse_clip_field(name, getattr(self, name))) for name in MEDIA_ARGUMENTS)
        values = {
            name: value
            for name in CLIP_FIELDS
            if name not in ("audio_url", "model") and (value := parse_clip_field(name, getattr(self, name))) is not None
        }
        urls = {each.field: each.url for each in media}
        return build_clip_request(self.model or self.hook.config.model, urls, **values), media

    @property
    def _list_model(self) -> str | None:
        """The model by which the API's list is filtered; None for the connection's."""
        return None if self.model in (None, self.hook.config.model) else self.model

    def _open_submitter(self) -> Submitter:
        from airflow_provider_wan.ledger import Submitter, open_store

        uri = ledger_context.resolve_ledger_uri(self.ledger_uri)
        return Submitter(self.hook.client, open_store(uri, s3_client=lambda: self.s3))

    def _wait_for_result(self, context: Context, submit_result: SubmitResult, end_time: float) -> Any:
        from airflow_provider_wan.ledger.entry import EntryState

        entry, record = submit_result.entry, submit_result.record
        request_id = str(entry.request_id)
        self._may_cancel = ledger_context.is_paid_by(context, entry)
        if record is None and entry.state is not EntryState.SUBMITTED:
            return self._reuse_archived(context, entry)
        result: RequestRecord | WanError | None = record
        if record is None or not record.is_final:
            submitted_at = record.created_at if record is not None else None
            if self.deferrable and may_defer(end_time):
                self._defer(request_id, entry.fingerprint, end_time, record)
            result = self._wait_sync(request_id, end_time, submitted_at)
        return self._build_last_result(context, request_id, entry.fingerprint, result, entry)

    def _reuse_archived(self, context: Context, entry: LedgerEntry) -> dict[str, Any]:
        """Return a clip that is archived; or, if it is no longer there, the one that the API still has."""
        if not entry.archive_uri:
            raise WanResultGoneError(
                f"Request {entry.request_id} was finished and paid for, but the API no longer knows it and the ledger "
                "names no archived copy. If WanToS3Operator archived it without this ledger, the clip is at that key. "
                "Otherwise a new idempotency_key makes the clip again, and pays again."
            )
        if uri := self._find_archived(entry):
            from airflow_provider_wan.operators.archiving import build_archived_result

            costs = self._build_costs(context, entry, entry.cost_estimate)
            return build_archived_result(entry, uri) | {
                **costs,
                "ledger_uri": ledger_context.resolve_ledger_uri(self.ledger_uri),
            }
        from airflow_provider_wan.ledger.recovery import get_result_again, report_lost_clip

        record = get_result_again(self.hook.client, entry)
        try:
            self.archive.check_result(record)
        except (WanResultGoneError, WanResultRefusedError) as error:
            raise report_lost_clip(entry, error) from error
        self.log.warning("Clip %s is no longer at %s: the API still has it", entry.fingerprint, entry.archive_uri)
        return self._build_result(context, record, replace(entry, archive_uri=None), entry.fingerprint)

    def _find_archived(self, entry: LedgerEntry) -> str | None:
        """Return where an archived clip is; None if it is certainly not where the ledger says.

        :param entry: the clip's entry.
        :raises WanResultMismatchError: if it is there, and is not the clip that was asked for.
        """
        from airflow_provider_wan.operators.archiving import find_archived_clip

        return find_archived_clip(self.archive, entry)

    def _build_last_result(
        self,
        context: Context,
        request_id: str,
        fingerprint: str | None,
        result: RequestRecord | WanError | None,
        entry: LedgerEntry | None = None,
    ) -> dict[str, Any]:
        """Return the task's result, or raise its error, from what the last poll returned or raised."""
        if not isinstance(result, RequestRecord):
            raise build_timeout_error(request_id, result, self.timeout)
        entry = self._record_result(fingerprint, result) or entry
        if not result.is_final:
            raise build_timeout_error(request_id, result, self.timeout)
        return self._build_result(context, result, entry, fingerprint)

    def _get_last_result(self, request_id: str) -> RequestRecord | WanError:
        try:
            return self.hook.get_request(request_id)
        except WanError as error:
            return error

    def _build_trigger(
        self, request_id: str, fingerprint: str | None, end_time: float, submitted_at: float | None = None
    ) -> WanI2VTrigger:
        from airflow_provider_wan.triggers.wan import WanI2VTrigger

        return WanI2VTrigger(
            request_id=request_id,
            end_time=end_time,
            wan_conn_id=self.wan_conn_id,
            poll_interval=self.poll_interval,
            not_before=time.time() + MIN_DEFERRAL_SECONDS,
            # Only the task that has paid may cancel: others may wait for the same clip.
            cancel_policy=self.cancel_policy if self._may_cancel else CancelPolicy.NEVER,
            fingerprint=fingerprint,
            resolution=self.resolution,
            duration=parse_clip_field("duration", self.duration),
            submitted_at=submitted_at,
            model=self._list_model,
        )

    def _is_own_clip(self, context: Context, fingerprint: str | None) -> bool:
        """Return whether this task has paid for the clip; False if the ledger can't be read now."""
        if fingerprint is None:
            return False
        try:
            stored = self._open_submitter().ledger.store.read(fingerprint)
        except WanError as error:
            self.log.warning("Clip %s will not be cancelled: who has paid for it is unknown (%s)", fingerprint, error)
            return False
        return stored is not None and ledger_context.is_paid_by(context, stored.entry)

    def _defer(self, request_id: str, fingerprint: str | None, end_time: float, record: RequestRecord | None) -> None:
        submitted_at = record.created_at if record is not None else None
        self.defer(
            trigger=self._build_trigger(request_id, fingerprint, end_time, submitted_at),
            method_name="execute_complete",
            timeout=deferral_timeout(end_time),
        )

    def _wait_sync(
        self, request_id: str, end_time: float, submitted_at: float | None = None
    ) -> RequestRecord | WanError | None:
        """Wait in the worker, as the trigger does, and return what the last poll returned or raised."""
        target = PollTarget(
            request_id,
            end_time,
            not_before=0.0,
            poll_interval=self.poll_interval,
            resolution=self.resolution,
            duration=parse_clip_field("duration", self.duration),
            submitted_at=submitted_at,
            model=self._list_model,
        )
        self._waiting_for = request_id
        with record_span("wan.wait", request_id=request_id) as set_attributes:
            outcome = self.hook.wait_sync(
                target,
                lambda status: self.log.info("Request %s is %s", request_id, status),
                lambda error: self.log.warning(
                    "Polling goes on until the deadline, at increasing intervals: %s", error
                ),
            )
            set_attributes(status=outcome.decision.status.value)
        result = outcome.last_result
        if isinstance(result, RequestRecord) and result.is_final:
            self._waiting_for = None
        return result

    def _record_result(self, fingerprint: str | None, record: RequestRecord) -> LedgerEntry | None:
        if fingerprint is None:
            return None
        return self._open_submitter().ledger.record_result(fingerprint, record)

    def _build_result(
        self, context: Context, record: RequestRecord, entry: LedgerEntry | None, fingerprint: str | None
    ) -> dict[str, Any]:
        if record.status is not RequestStatus.SUCCESS:
            raise build_error(record, outcome=entry.outcome if entry else None)
        if record.created_at and record.updated_at:
            self.log.info(
                "Request %s took %.0f s at the service", record.request_id, record.updated_at - record.created_at
            )
        if entry is not None:
            self._check_result(record, entry)
        model = entry.model if entry else self.model or self.hook.config.model
        resolution = entry.resolution if entry else self.resolution
        seconds = entry.duration if entry else parse_clip_field("duration", self.duration)
        return clip_result(
            record,
            fingerprint=fingerprint,
            seconds=seconds,
            resolution=resolution,
            model=model,
            seed=entry.seed if entry else self.seed,
            **self._build_costs(context, entry, self._estimate_cost(resolution, seconds, model)),
            archive_uri=entry.archive_uri if entry else None,
            ledger_uri=ledger_context.resolve_ledger_uri(self.ledger_uri),
        )

    def _check_result(self, record: RequestRecord, entry: LedgerEntry) -> None:
        """Raise an error if a finished request is not the one that was asked for.

        :param record: the request.
        :param entry: the clip's entry.
        """
        from airflow_provider_wan.ledger.recovery import build_asked_clip
        from airflow_provider_wan.media.delivery import check_request

        check_request(record, build_asked_clip(entry))

    def _estimate_cost(self, resolution: str, seconds: float, model: str) -> float | None:
        return self.hook.config.cost(resolution, seconds, model)

    @staticmethod
    def _build_costs(context: Context, entry: LedgerEntry | None, estimate: float | None) -> dict[str, Any]:
        """Return what the clip cost at its payment, and what of that this task instance has paid."""
        paid = entry.charged if entry else None
        paid = estimate if paid is None else paid
        reused = entry is not None and not ledger_context.is_paid_by(context, entry)
        return {"cost": 0.0 if reused else paid, "cost_at_payment": paid, "reused": reused}


class WanRequestOperator(WanI2VOperator):
    """Send a payload as it is to a model whose rules this provider does not know, and pay for it once.

    Ledger, budget, waiting and cancellation are those of :class:`WanI2VOperator`, and so are all arguments except
    those of a clip. Nothing checks the payload: the service drops parameters that a model does not have, and charges.

    :param model: the model id; case sensitive (templated).
    :param payload: the model's parameters (templated). A ``seed`` is added if it has none: by it, a request is found
        again whose response was lost.
    :param request_cost: US dollars that one request costs (templated); default: by the price for the model and the
        payload's ``resolution`` and ``duration``. ``max_cost`` needs one of the two.
    """

    template_fields: Sequence[str] = (
        "model",
        "payload",
        "request_cost",
        *(name for name in WanClipBaseOperator.template_fields if name not in CLIP_FIELDS),
    )

    def __init__(
        self, *, model: str, payload: Mapping[str, Any], request_cost: float | str | None = None, **kwargs: Any
    ) -> None:
        if wrong := sorted({"img_url", "last_frame", "first_clip", "probe_urls", *CLIP_FIELDS} & set(kwargs)):
            raise TypeError(f"WanRequestOperator takes {', '.join(wrong)} in the payload only")
        super().__init__(img_url="", model=model, **kwargs)
        self.payload = payload
        self.request_cost = request_cost

    def render_template(
        self, content: Any, context: Context, jinja_env: Any = None, seen_oids: set[int] | None = None
    ) -> Any:
        """Render a template; of the payload, prompts as text, and the others as the Dag says.

        :param content: the template, or a collection of templates.
        :param context: Airflow's context.
        :param jinja_env: Jinja's environment.
        :param seen_oids: ids of objects that are rendered.
        """
        # What a mapped task gets from another task is in seen_oids: it is not a template.
        if content is not getattr(self, "payload", None) or id(content) in (seen_oids or ()):
            return super().render_template(content, context, jinja_env, seen_oids)
        return self._render_payload(content, context, jinja_env, seen_oids)

    def _render_payload(self, value: Any, context: Context, jinja_env: Any, seen_oids: set[int] | None) -> Any:
        if isinstance(value, list):
            return [self._render_payload(each, context, jinja_env, seen_oids) for each in value]
        if not isinstance(value, dict):
            return super().render_template(value, context, jinja_env, seen_oids)
        rendered = {}
        for name, each in value.items():
            if name in PROMPT_PARAMETERS and isinstance(each, str):
                with self._rendering_text(jinja_env) as text_env:
                    rendered[name] = super().render_template(each, context, text_env, seen_oids)
            else:
                rendered[name] = self._render_payload(each, context, jinja_env, seen_oids)
        return rendered

    def _mask_secrets(self) -> None:
        for text in find_texts(self.payload):
            mask_query(text)

    def _register_prompts(self) -> None:
        for prompt in find_prompts(self.payload):
            register_prompt(prompt)

    def _build_request(self) -> tuple[WanRequest, tuple[MediaRef, ...]]:
        request = RawRequest(str(self.model), self.payload, parse_usd(self.request_cost, "request_cost"))
        self.resolution, self.duration = request.resolution, request.duration
        return request, ()

    def _estimate_cost(self, resolution: str, seconds: float, model: str) -> float | None:
        cost = parse_usd(self.request_cost, "request_cost")
        return cost if cost is not None else super()._estimate_cost(resolution, seconds, model)


def check_max_cost(claim: LedgerEntry, max_cost: float | None) -> None:
    """Refuse a payment that would exceed the limit together with the duplicate charges of the same clip.

    :param claim: the claim that is about to be made.
    :param max_cost: limit in US dollars; None: no limit.
    :raises WanBudgetError: if it would.
    """
    duplicates = sum(past.cost or 0.0 for past in claim.duplicates)
    if max_cost is not None and duplicates and duplicates + (claim.cost_estimate or 0.0) > max_cost:
        raise WanBudgetError(
            f"max_cost=${max_cost:.2f}: ${duplicates:.2f} of it is spent on duplicate charges of this clip, which "
            f"would cost ${claim.cost_estimate or 0.0:.2f} more. Nothing was paid. Raise max_cost, or archive the "
            "duplicate with `wan-provider harvest`."
        )
