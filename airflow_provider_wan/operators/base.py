# SPDX-License-Identifier: Apache-2.0
"""What the operators share: the connections, and the arguments of a clip."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from airflow.providers.common.compat.sdk import BaseOperator, conf, mask_secret

from airflow_provider_wan.api.redaction import url_query
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.operators.arguments import parse_choice, parse_flag, parse_seconds
from airflow_provider_wan.triggers.cancellation import CancelPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_wan.hooks.wan import WanHook

#: Arguments that go into the request. The image is an argument of the subclass.
CLIP_FIELDS = tuple(field.name for field in fields(I2VRequest) if field.name != "img_url")
#: Fields that stay text, even if the Dag renders templates as native objects.
TEXT_FIELDS = frozenset({"prompt", "negative_prompt", "idempotency_key"})
#: Fields that have their default if their template has no value. The others are parsed as they are rendered: a missing
#: value must not choose the account that pays, the ledger, the rows that are paid for, or where files may come from.
OPTIONAL_FIELDS = (
    frozenset({*CLIP_FIELDS, "last_frame", "first_clip", "pad_fill", "crop_anchor", "frame", "dest_prefix"})
    - TEXT_FIELDS
)


def is_web_url(value: object) -> TypeGuard[str]:
    """Return whether a value is the text of an http(s) URL.

    :param value: any value.
    """
    return isinstance(value, str) and value.strip().lower().startswith(("http://", "https://"))


def mask_query(url: object) -> None:
    """Mask the query string of a URL in logs and rendered fields, since it may be a signature.

    :param url: any value; only a text that is an http(s) URL with a query string is masked.
    """
    if is_web_url(url) and (query := url_query(url.strip())):
        mask_secret(query)


def mask_rendered_queries(value: object) -> None:
    """Mask the query strings of the URLs in a value, as far as Airflow shows it as a rendered field.

    Airflow cuts a long field off. To mask all URLs of a long list would take minutes: the time that it takes to add one
    secret grows with the number of secrets.

    :param value: plain values.
    """
    left = conf.getint("core", "max_templated_field_length", fallback=4096)
    for text in find_texts(value):
        if left <= 0:
            return
        mask_query(text)
        left -= len(text)


def find_texts(value: Any) -> Iterator[str]:
    """Yield the texts in a value and in what it contains.

    :param value: plain values.
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from find_texts(each)


def _get_default(operator: type[Any], name: str, required: Any) -> Any:
    """Return the default of an argument, or a given value if the argument is required."""
    for constructor in (vars(cls).get("__init__") for cls in operator.__mro__):
        parameter = None if constructor is None else inspect.signature(constructor).parameters.get(name)
        if parameter is not None:
            return required if parameter.default is inspect.Parameter.empty else parameter.default
    return required


class WanBaseOperator(BaseOperator):
    """Base class of all operators of this provider, with the connections.

    :param wan_conn_id: id of a connection of type ``wan`` (templated).
    :param aws_conn_id: id of the AWS connection, for everything on S3 (templated).
    :param s3_options: options of everything that is written to S3, such as ``{"ServerSideEncryption": "aws:kms"}``;
        one that is not set here is that of ``[wan] s3_options``, or else of ``s3_options`` in the AWS connection's
        extra (templated).
    """

    template_fields: Sequence[str] = ("wan_conn_id", "aws_conn_id", "s3_options")

    #: Limits that the arguments of a subclass set; a connection can't lift them.
    prices: Mapping[str, Any] | str | None = None
    result_hosts: Sequence[str] | str | None = None

    def __init__(
        self,
        *,
        wan_conn_id: str = "wan_default",
        aws_conn_id: str | None = "aws_default",
        s3_options: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wan_conn_id = wan_conn_id
        self.aws_conn_id = aws_conn_id
        self.s3_options = s3_options

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Render the fields. Those of ``OPTIONAL_FIELDS`` have their default if their template has no value.

        An image without a value is refused later: a model that can do without it would make another clip.
        """
        templates = {name: getattr(parent, name, None) for name in template_fields}
        super()._do_render_template_fields(parent, templates, context, jinja_env, seen_oids)
        for name, template in templates.items():
            value = getattr(parent, name, None)
            if value is not None and not (isinstance(value, str) and value == "None"):
                continue
            if name in OPTIONAL_FIELDS and isinstance(template, str):
                setattr(parent, name, _get_default(type(parent), name, value))
            elif name == "img_url" and template is not None:
                setattr(parent, name, "")

    @cached_property
    def s3(self) -> Any:
        """A boto3 S3 client whose presigned URLs every region and KMS accept."""
        from airflow_provider_wan.hooks.s3_client import create_signing_client

        return create_signing_client(self.aws_conn_id, self.s3_options)

    @cached_property
    def hook(self) -> WanHook:
        """Hook of the ``wan`` connection."""
        from airflow_provider_wan.hooks.wan import WanHook

        return WanHook(self.wan_conn_id, prices=self.prices, result_hosts=self.result_hosts)


class WanClipBaseOperator(WanBaseOperator):
    """Base class of the operators that make clips, with the arguments of a clip and of its payment.

    :param prompt: what happens in the clip; at most 1500 characters (templated, as all down to ``max_cost``). In a
        batch, this and all parameters down to ``model`` apply to rows that do not set them.
    :param negative_prompt: what the clip must not show; at most 500 characters.
    :param audio_url: sound of the clip, a WAV or MP3 of 3-30 s: http(s) URL, or the result of
        :class:`~airflow_provider_wan.transfers.s3_to_wan.S3ToWanOperator` with ``kind="audio"``. In a batch: any
        address that a row may have.
    :param resolution: ``720P`` or ``1080P``.
    :param duration: seconds of video: the integer 5, 10 or 15.
    :param prompt_extend: let the service elaborate the prompt.
    :param shot_type: ``single`` or ``multi``.
    :param audio: generate audio if ``audio_url`` is not set.
    :param watermark: add the service's watermark to the clip.
    :param seed: 0-2147483647; default: a random seed for each submission.
    :param model: ``wan2.6-i2v`` or ``wan2.7-i2v``; default: the connection's. The latter has no ``shot_type`` and no
        ``audio``, and its ``duration`` is an integer from 2 to 15.
    :param ledger_uri: location of the ledger: ``s3://bucket/prefix`` or ``file:///folder``; default: ``[wan]
        ledger_uri``, or else ``wan-ledger`` below ``AIRFLOW_HOME`` if the executor runs all tasks on one machine; with
        any other executor it must be set. In a batch, the last default is ``<output_prefix>/_ledger``.
    :param reuse: ``run``: the same content is paid for once for each Dag run; ``content``: once for all tasks that
        share the ledger.
    :param idempotency_key: text that identifies a separate clip: each new key makes one new clip, and the same key
        returns it. An empty text or None is unset. In a batch, it applies to rows that have none.
    :param max_cost: limit in US dollars: a clip that would exceed it is not submitted. In a batch it is the limit for
        the whole task, all its attempts together.
    :param prices: US dollars per second of video: by resolution for ``wan2.6-i2v``, such as ``{"720P": 0.10}``, and by
        model and resolution for others, such as ``{"wan2.7-i2v": {"720P": 0.10}}`` (templated). Default: ``[wan]
        prices``, or else the list prices; a connection's are used where they are higher.
    :param probe_urls: before a payment, fetch the first bytes at http(s) URLs that the API is to fetch, and refuse what
        it can't use: share pages, other types, sizes and dimensions. Set False if the worker cannot reach them, or
        if a link works only once.
    :param deferrable: wait in the triggerer; default: Airflow's ``default_deferrable``.
    :param poll_interval: seconds between polls, or a timedelta.
    :param cancel_policy: what happens when a user kills the task: ``queued`` cancels requests that have not started,
        ``always`` all, ``never`` none.
    """

    template_fields: Sequence[str] = (
        *CLIP_FIELDS,
        *WanBaseOperator.template_fields,
        "ledger_uri",
        "reuse",
        "idempotency_key",
        "max_cost",
        "prices",
    )

    def __init__(
        self,
        *,
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
        ledger_uri: str | None = None,
        reuse: Literal["run", "content"] = "run",
        idempotency_key: str | None = None,
        max_cost: float | None = None,
        prices: Mapping[str, Any] | str | None = None,
        probe_urls: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: timedelta | float = 10,
        cancel_policy: Literal["queued", "always", "never"] = "queued",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._renders_text = False
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
        self.ledger_uri = ledger_uri
        self.reuse = reuse
        self.idempotency_key = idempotency_key
        self.max_cost = max_cost
        self.prices = prices
        self.probe_urls = parse_flag("probe_urls", probe_urls)
        self.deferrable = deferrable
        self.poll_interval = parse_seconds("poll_interval", poll_interval)
        self.cancel_policy = parse_choice("cancel_policy", cancel_policy, tuple(CancelPolicy))

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Context, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Render the fields, of mapped tasks too: prompts as text, and the others as the Dag says."""
        fields_to_render = list(template_fields)
        texts = [name for name in fields_to_render if parent is self and name in TEXT_FIELDS]
        others = [name for name in fields_to_render if name not in texts]
        super()._do_render_template_fields(parent, others, context, jinja_env, seen_oids)
        if texts:
            with self._rendering_text(jinja_env) as text_env:
                super()._do_render_template_fields(parent, texts, context, text_env, seen_oids)
        self._mask_secrets()

    @contextmanager
    def _rendering_text(self, jinja_env: Any) -> Iterator[Any]:
        """Yield an environment whose templates render to text, even if those of the Dag render to native objects."""
        dag = self.get_dag()
        self._renders_text = True
        try:
            yield jinja_env if dag is None else dag.get_template_env(force_sandboxed=True)
        finally:
            self._renders_text = False

    def _render(self, template: Any, context: Any, dag: Any = None) -> Any:
        """Render a template, as text if its field is text."""
        return "".join(template.generate(context)) if self._renders_text else super()._render(template, context, dag)

    def _mask_secrets(self) -> None:
        """Mask the secrets in rendered URLs before Airflow stores the rendered fields."""
