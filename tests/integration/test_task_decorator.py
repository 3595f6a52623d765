# SPDX-License-Identifier: Apache-2.0
"""``@task.wan_i2v`` against a real S3 and the sandbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.sdk import DAG, task
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_wan.api.errors import WanLookupError
from airflow_provider_wan.decorators.wan import ARGUMENTS_XCOM_KEY
from airflow_provider_wan.operators import wan as operator_module
from airflow_provider_wan.sandbox import SandboxServer
from dev.testkit.media_files import picture
from dev.testkit.s3_folder import Folder
from dev.testkit.triggers import run_trigger

PROMPT = "The tide comes in"
SIGNED = "https://images.example.com/cat.jpg?X-Amz-Signature=c0ffee"


class DecoratedTask:
    """One task instance of a decorated function, with the XComs that Airflow keeps for it."""

    def __init__(self, ledger: Path) -> None:
        self.calls = 0
        self.deferrals = 0
        self.tries = 0
        self.xcoms: dict[str, Any] = {}
        self._settings = {"ledger_uri": f"file://{ledger}", "resolution": "720P", "poll_interval": 0.05}

    def run(self, returned: Any, **arguments: Any) -> Any:
        def clip() -> Any:
            self.calls += 1
            return returned

        self.tries += 1
        operator = self._build(clip, arguments)
        step = partial(operator.execute, self._context())
        while True:
            try:
                return step()
            except TaskDeferred as deferred:
                self.deferrals += 1
                event = asyncio.run(run_trigger(deferred.trigger))
                resumed = self._build(clip, arguments)
                step = partial(resumed.execute_complete, self._context(), event)

    def run_function(self, function: Callable[[], Any], **arguments: Any) -> Any:
        self.tries += 1
        return self._build(function, arguments).execute(self._context())

    def _build(self, function: Callable[[], Any], arguments: dict[str, Any]) -> Any:
        with DAG("dag", schedule=None):
            return task.wan_i2v(**{**self._settings, "deferrable": True, **arguments})(function)().operator

    def _context(self) -> Any:
        def pull(*, task_ids: str, key: str, map_indexes: int) -> Any:
            assert (task_ids, map_indexes) == ("clip", -1)
            return json.loads(json.dumps(self.xcoms.get(key)))

        ti = SimpleNamespace(dag_id="dag", run_id="run-1", task_id="clip", map_index=-1, try_number=self.tries)
        ti.xcom_push = lambda key, value: self.xcoms.__setitem__(key, value)
        ti.xcom_pull = pull
        run = SimpleNamespace(conf={}, run_id="run-1")
        return {"ti": ti, "dag_run": run, "outlet_events": OutletEventAccessors()}


@pytest.fixture
def decorated(folder: Folder, sandbox: SandboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DecoratedTask:
    monkeypatch.setattr(operator_module, "MIN_DEFERRAL_SECONDS", 0.0)
    return DecoratedTask(tmp_path / "ledger")


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_function_that_returns_image_and_prompt_becomes_an_archived_clip(
    decorated: DecoratedTask, folder: Folder, sandbox: SandboxServer, deferrable: bool
) -> None:
    image = folder.put("in.png", picture(3000, 2000, "PNG"))
    target = folder.uri("clips/a.mp4")

    result = decorated.run((image, PROMPT), target=target, deferrable=deferrable)
    again = decorated.run((image, PROMPT), target=target, deferrable=deferrable)

    assert (result["uri"], result["cost"]) == (target, 0.5)
    assert decorated.deferrals == int(deferrable)
    assert decorated.calls == 2, "a task that is resumed calls its function no second time"
    (accepted,) = sandbox.accepted()
    assert again["request_id"] == result["request_id"] == accepted["request_id"]
    assert sandbox.call(lambda core: core.jobs.get(accepted["request_id"])).payload["prompt"] == PROMPT


def test_a_mapping_sets_any_templated_argument(
    decorated: DecoratedTask, folder: Folder, sandbox: SandboxServer
) -> None:
    given = {
        "source": folder.put("in.png", picture(800, 600, "PNG")),
        "prompt": PROMPT,
        "target": folder.uri("clips/b.mp4"),
        "duration": 10,
        "seed": 7,
    }

    result = decorated.run(given)

    assert (result["uri"], result["seed"]) == (given["target"], 7)
    assert result["seconds"] == 10


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "an image"),
        ({"prompt": PROMPT}, "the key source"),
        ({"source": "s3://b/a.jpg", "promt": PROMPT}, "promt"),
        (("s3://b/a.jpg", 5), "an image"),
    ],
)
def test_a_value_that_is_no_clip_is_refused_before_anything_is_paid(
    decorated: DecoratedTask, sandbox: SandboxServer, returned: Any, words: str
) -> None:
    with pytest.raises(AirflowFailException, match=rf"WanValidationError: return value.*{words}.*Nothing was paid"):
        decorated.run(returned, target="s3://b/a.mp4")
    assert sandbox.accepted() == []


def test_a_resumed_task_whose_arguments_were_deleted_says_what_brings_them_back(
    decorated: DecoratedTask, folder: Folder, sandbox: SandboxServer
) -> None:
    image, target = folder.put("in.png", picture(800, 600, "PNG")), folder.uri("clips/e.mp4")

    class Deleted(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            if key != ARGUMENTS_XCOM_KEY:
                super().__setitem__(key, value)

    stored, decorated.xcoms = decorated.xcoms, Deleted()
    with pytest.raises(WanLookupError, match=r"XCom wan_i2v_arguments.*retry"):
        decorated.run((image, PROMPT), target=target)
    decorated.xcoms = stored
    assert decorated.run((image, PROMPT), target=target)["uri"] == target
    assert len(sandbox.accepted()) == 1


def test_no_signature_of_a_returned_url_is_stored(decorated: DecoratedTask) -> None:
    # The host does not exist, so the task fails after it has stored what was returned.
    with pytest.raises(Exception, match=r"cat\.jpg"):
        decorated.run((SIGNED, PROMPT), target="s3://b/a.mp4")
    assert "c0ffee" not in json.dumps(decorated.xcoms)


def test_a_value_of_none_leaves_an_argument_at_its_default(decorated: DecoratedTask, folder: Folder) -> None:
    given = {"source": folder.put("in.png", picture(800, 600, "PNG")), "target": folder.uri("clips/c.mp4")}
    nothing = dict.fromkeys(("prompt", "negative_prompt", "duration", "seed", "audio", "max_cost", "idempotency_key"))
    result = decorated.run({**given, **nothing})
    assert (result["uri"], result["seconds"]) == (given["target"], 5)


def test_an_asynchronous_function_is_run(decorated: DecoratedTask, folder: Folder) -> None:
    image, target = folder.put("in.png", picture(800, 600, "PNG")), folder.uri("clips/d.mp4")

    async def clip() -> tuple[str, str]:
        await asyncio.sleep(0)
        return image, PROMPT

    assert decorated.run_function(clip, target=target, deferrable=False)["uri"] == target


def test_signatures_in_arguments_of_the_function_are_masked_before_its_fields_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masked: list[str] = []
    monkeypatch.setattr("airflow_provider_wan.operators.base.mask_secret", masked.append)
    with DAG("dag", schedule=None):

        @task.wan_i2v(target="s3://b/a.mp4")
        def clip(image: str, more: dict[str, Any]) -> str:
            return image

        made: Any = clip(SIGNED, more={"images": [SIGNED.replace("c0ffee", "decaf")]})
    made.operator.render_template_fields({"params": {}})
    assert masked == ["X-Amz-Signature=c0ffee", "X-Amz-Signature=decaf"]


@pytest.mark.parametrize("url", [SIGNED, SIGNED.replace("https", "HTTPS")])
def test_what_a_resumed_task_needs_is_stored_without_signatures(decorated: DecoratedTask, url: str) -> None:
    returned = {"source": url, "target": "s3://b/", "audio_url": {"url": url, "sha256": "0" * 64}}
    with pytest.raises(AirflowFailException, match="target"):
        decorated.run(returned)

    plain = url.partition("?")[0]
    stored = decorated.xcoms[ARGUMENTS_XCOM_KEY]
    assert stored == {"source": plain, "target": "s3://b/", "audio_url": {"url": plain, "sha256": "0" * 64}}


def test_a_mapped_function_has_a_task_for_each_image() -> None:
    with DAG("dag", schedule=None) as dag:

        @task.wan_i2v(target="s3://b/{{ ti.map_index }}.mp4")
        def clip(image: str) -> str:
            return image

        clip.expand(image=["s3://b/1.jpg", "s3://b/2.jpg"])

    mapped: Any = dag.get_task("clip")
    assert mapped.is_mapped
    one = mapped.unmap({"op_kwargs": {"image": "s3://b/1.jpg"}})
    assert (one.op_kwargs, one.target) == ({"image": "s3://b/1.jpg"}, "s3://b/{{ ti.map_index }}.mp4")
