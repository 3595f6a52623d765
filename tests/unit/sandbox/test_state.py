# SPDX-License-Identifier: Apache-2.0
"""What was said outlives the process."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_provider_wan.sandbox.state import StateFile
from dev.testkit.sandbox import Desk


def restarted(desk: Desk) -> Desk:
    """Another process that reads what the first had written."""
    other = Desk()
    other.clock.time = desk.clock.time
    other.core.replay(json.loads(json.dumps(desk.events)))
    return other


def test_a_restart_forgets_no_request_no_charge_and_no_call() -> None:
    desk = Desk()
    done = desk.submit_id(seed=1)
    desk.core.faults.inject("failed_dict")
    failed = desk.submit_id(seed=2)
    desk.core.faults.inject("backend_400")
    desk.submit(seed=3)
    desk.wait(100)
    desk.core.faults.inject("bare_media_urls")
    desk.core.faults.inject("reset_after_accept")
    desk.submit(seed=4)
    other = restarted(desk)
    assert other.listed() == desk.listed()
    assert other.core.journal.tell_accepted() == desk.core.journal.tell_accepted()
    assert other.core.journal.tell_charges() == desk.core.journal.tell_charges()
    assert other.core.journal.tell_calls() == desk.core.journal.tell_calls()
    assert (other.get(done)["status"], other.get(failed)["status"]) == ("success", "failed")
    desk.wait(1000)
    other.wait(1000)
    assert other.listed() == desk.listed()
    assert len(other.core.journal.charges) == 2


def test_ids_are_not_given_twice_after_a_restart() -> None:
    desk = Desk()
    first = desk.submit_id()
    assert restarted(desk).submit_id() != first


def test_an_acceptance_is_written_before_its_answer_is_given() -> None:
    desk = Desk()
    kinds: list[str] = []
    desk.core.sink = lambda event: kinds.append(event["event"])
    desk.core.faults.inject("hang_after_accept")
    desk.submit()
    assert kinds == ["accepted", "call"]


def test_a_reset_and_an_upload_are_remembered_too() -> None:
    desk = Desk()
    desk.submit()
    desk.call("POST", "/admin/reset")
    url = desk.call("POST", "/upload-url", {"file_type": "png"}).json()["upload_url"]
    other = restarted(desk)
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
