# SPDX-License-Identifier: Apache-2.0
"""``@task.wan_i2v``: a function names the image and the prompt, and the task makes the clip."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_wan.api.errors import WanError, WanLookupError, WanValidationError
from airflow_provider_wan.api.redaction import strip_query
from airflow_provider_wan.operators.base import is_web_url, mask_rendered_queries
from airflow_provider_wan.operators.image_to_video import WanImageToVideoOperator
from airflow_provider_wan.operators.task_result import fail_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context, TaskDecorator

# A deferred task is resumed by a fresh operator, which must not call the function again: it may return another value.
ARGUMENTS_XCOM_KEY = "wan_i2v_arguments"


class _WanI2VDecoratedOperator(DecoratedOperator, WanImageToVideoOperator):
    """Calls a function for the arguments of WanImageToVideoOperator, and makes the clip.

    :param python_callable: the function.
    :param op_args: its positional arguments (templated).
    :param op_kwargs: its keyword arguments (templated).
    :param target: ``s3://bucket/key.mp4`` of the clip, if the function does not return it (templated).
    """

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *WanImageToVideoOperator.template_fields)
    template_fields_renderers = DecoratedOperator.template_fields_renderers
    custom_operator_name: str = "@task.wan_i2v"
    overwrite_rtif_after_execution: bool = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        target: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, source="", target=target, **kwargs
        )

    def execute(self, context: Context) -> Any:
        """Call the function, and make the clip.

        :param context: Airflow's context.
        """
        context_merge(context, self.op_kwargs)
        given = determine_kwargs(self.python_callable, self.op_args, context)
        returned = self.python_callable(*self.op_args, **given)
        if inspect.iscoroutine(returned):
            from airflow_provider_wan.hooks.wan import run_sync

            returned = run_sync(lambda: returned)
        try:
            arguments = parse_returned(returned)
        except WanError as error:
            fail_task(error)
        self._apply(arguments)
        stored = {name: _strip_signature(value) for name, value in arguments.items()}
        context["ti"].xcom_push(key=ARGUMENTS_XCOM_KEY, value=stored)
        return super().execute(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Process the trigger's event with what the function has returned.

        :param context: Airflow's context.
        :param event: payload of the trigger's event.
        :raises WanLookupError: if what the function has returned was deleted; a retry calls it again.
        """
        ti = context["ti"]
        map_index = -1 if ti.map_index is None else ti.map_index
        arguments = ti.xcom_pull(task_ids=ti.task_id, key=ARGUMENTS_XCOM_KEY, map_indexes=map_index)
        if arguments is None:
            raise WanLookupError(
                f"The XCom {ARGUMENTS_XCOM_KEY}, what the function has returned, was deleted while the task waited. "
                "The request continues: a retry, or clearing this task, calls the function again, and pays nothing if "
                "it returns the same."
            )
        self._apply(arguments)
        return super().execute_complete(context, event)

    def _mask_secrets(self) -> None:
        super()._mask_secrets()
        mask_rendered_queries(self.op_args)
        mask_rendered_queries(self.op_kwargs)

    def _apply(self, arguments: Mapping[str, Any]) -> None:
        for name, value in arguments.items():
            setattr(self, name, value)
        self._mask_secrets()


def parse_returned(returned: Any) -> dict[str, Any]:
    """Return the arguments that a function has returned.

    :param returned: the image; the image and the prompt; or a mapping of templated arguments of the operator.
    :raises WanValidationError: if it is none of these.
    """
    if isinstance(returned, str):
        return {"source": returned}
    if isinstance(returned, tuple | list) and len(returned) == 2 and all(isinstance(each, str) for each in returned):
        return {"source": returned[0], "prompt": returned[1]}
    allowed = WanImageToVideoOperator.template_fields
    if isinstance(returned, Mapping) and isinstance(returned.get("source"), str):
        if unknown := sorted(str(name) for name in returned if name not in allowed):
            raise WanValidationError(
                "return value", unknown, f"must have only these names: {', '.join(sorted(allowed))}", "Nothing was paid"
            )
        return dict(returned)
    raise WanValidationError(
        "return value",
        type(returned).__name__,
        "must be an image, (image, prompt), or a mapping with the key source",
        "An image is an s3:// URI, a path or an http(s) URL. Nothing was paid",
    )


def _strip_signature(value: Any) -> Any:
    """Return a value without the query strings of its URL, or of that of an ingested file."""
    if isinstance(value, Mapping):
        return {name: _strip_signature(each) for name, each in value.items()}
    return strip_query(value) if is_web_url(value) else value


def wan_i2v_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool = False, **kwargs: Any
) -> TaskDecorator:
    """Turn a function into a task that makes a clip, as ``@task.wan_i2v``.

    The function returns the image, the image and the prompt, or a mapping of templated arguments of
    :class:`~airflow_provider_wan.operators.image_to_video.WanImageToVideoOperator`, such as ``{"source": …,
    "prompt": …, "target": …}``. They are not rendered as templates. A retry calls the function again: it should return
    the same values, because others are another clip, which is paid for.

    :param python_callable: the function.
    :param multiple_outputs: push each value of the task's result as an XCom of its own, too.
    :param kwargs: arguments of the operator, but ``source``.
    """
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_WanI2VDecoratedOperator,
        **kwargs,
    )
