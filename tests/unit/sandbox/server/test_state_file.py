# SPDX-License-Identifier: Apache-2.0
"""The state outlives the process."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_provider_wan.sandbox.server.state_file import StateFile
from dev.testkit.sandbox import SandboxHarness


def restarted(harness: SandboxHarness) -> SandboxHarness:
    """Start another process that reads the state of the first."""
    other = SandboxHarness()
    other.clock.time = harness.clock.time
    other.core.replay(json.loads(json.dumps(harness.events)))
    return other


def test_a_restart_forgets_no_request_no_charge_and_no_call() -> None:
    harness = SandboxHarness()
    done = harness.submit_id(seed=1)
    harness.core.faults.inject("failed_dict")
    failed = harness.submit_id(seed=2)
    harness.core.faults.inject("backend_400")
    harness.submit(seed=3)
    harness.wait(100)
    harness.core.faults.inject("bare_media_urls")
    harness.core.faults.inject("reset_after_accept")
    harness.submit(seed=4)
    other = restarted(harness)
    assert other.listed() == harness.listed()
    assert other.core.journal.list_accepted() == harness.core.journal.list_accepted()
    assert other.core.journal.list_charges() == harness.core.journal.list_charges()
    assert other.core.journal.list_calls() == harness.core.journal.list_calls()
    assert (other.get(done)["status"], other.get(failed)["status"]) == ("success", "failed")
    harness.wait(1000)
    other.wait(1000)
    assert other.listed() == harness.listed()
    assert len(other.core.journal.charges) == 2


def test_ids_are_not_given_twice_after_a_restart() -> None:
    harness = SandboxHarness()
    first = harness.submit_id()
    assert restarted(harness).submit_id() != first


def test_an_acceptance_is_written_before_its_answer_is_given() -> None:
    harness = SandboxHarness()
    kinds: list[str] = []
    harness.core.sink = lambda event: kinds.append(event["event"])
    harness.core.faults.inject("hang_after_accept")
    harness.submit()
    assert kinds == ["accepted", "call"]


def test_a_reset_and_an_upload_are_remembered_too() -> None:
    harness = SandboxHarness()
    harness.submit()
    harness.call("POST", "/admin/reset")
    url = harness.call("POST", "/upload-url", {"file_type": "png"}).json()["upload_url"]
    other = restarted(harness)
    assert other.listed() == []
    path, _, query = url.removeprefix("http://results.sandbox.invalid").partition("?")
    params = dict(pair.split("=") for pair in query.split("&"))
    assert other.core.handle_result("PUT", path, params, {"Content-Type": "image/png"}, b"x").status == 200


def test_a_torn_last_line_is_dropped_and_writing_goes_on_after_the_last_whole_one(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "deep" / "state.jsonl")
    file.write({"event": "one"})
    file.write({"event": "two"})
    file.close()
    with file.path.open("ab") as torn:
        torn.write(b'{"event": "thr')
    again = StateFile(file.path)
    assert [event["event"] for event in again.read()] == ["one", "two"]
    again.write({"event": "four"})
    again.close()
    assert [event["event"] for event in StateFile(file.path).read()] == ["one", "two", "four"]
