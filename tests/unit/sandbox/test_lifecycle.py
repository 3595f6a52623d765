# SPDX-License-Identifier: Apache-2.0
"""A request's transitions from queued to its end, by the clock alone."""

from __future__ import annotations

import statistics

import pytest

from airflow_provider_wan.sandbox.config import SandboxConfig
from airflow_provider_wan.sandbox.lifecycle import draw_latency
from dev.testkit.sandbox import START, SandboxHarness


def test_a_request_is_queued_then_runs_then_succeeds(harness: SandboxHarness) -> None:
    request_id = harness.submit_id()
    harness.wait(19)
    assert harness.get(request_id)["status"] == "queued"
    harness.wait(2)
    running = harness.get(request_id)
    assert (running["status"], running["outcome"]) == ("processing", None)
    assert running["updated_at"] == int(START) + 20
    harness.wait(60)
    done = harness.get(request_id)
    assert done["status"] == "success"
    assert done["updated_at"] == int(START) + 80
    url = f"http://results.sandbox.invalid/{request_id}.mp4"
    assert done["outcome"]["media_urls"] == [{"id": "0", "url": url}]


@pytest.mark.parametrize(
    ("duration", "resolution", "median"),
    [(5, "720P", 60), (10, "720P", 110), (15, "720P", 170), (5, "1080P", 96), (15, "1080P", 272)],
)
def test_run_times_are_lognormal_around_the_medians_of_the_contract(
    duration: int, resolution: str, median: float
) -> None:
    config = SandboxConfig(seed=5)
    runs = [draw_latency(config, number, duration, resolution)[1] for number in range(2000)]
    assert statistics.median(runs) == pytest.approx(median, rel=0.05)
    assert statistics.mean(runs) > statistics.median(runs)


def test_the_same_job_waits_for_very_different_times() -> None:
    waits = sorted(draw_latency(SandboxConfig(), number, 5, "720P")[0] for number in range(500))
    assert waits[-10] > 7 * waits[100]


def test_speed_divides_all_times_and_a_seed_repeats_them() -> None:
    slow, fast = SandboxConfig(seed=9), SandboxConfig(seed=9, speed=60)
    assert [time / 60 for time in draw_latency(slow, 3, 5, "720P")] == pytest.approx(draw_latency(fast, 3, 5, "720P"))
    assert draw_latency(slow, 3, 5, "720P") != draw_latency(SandboxConfig(seed=10), 3, 5, "720P")


def test_no_more_requests_run_than_the_limit_and_the_rest_wait_in_order() -> None:
    harness = SandboxHarness(concurrency=2, queue_seconds=0.0)
    ids = [harness.submit_id(seed=number) for number in range(5)]
    assert [harness.get(each)["status"] for each in ids] == ["processing"] * 2 + ["queued"] * 3
    harness.wait(61)
    assert [harness.get(each)["status"] for each in ids] == ["success"] * 2 + ["processing"] * 2 + ["queued"]
    harness.wait(120)
    assert harness.get(ids[4])["status"] == "success"
    assert harness.get(ids[4])["updated_at"] == int(START) + 180


def test_a_request_that_was_not_polled_for_long_has_had_its_transitions_at_the_right_times() -> None:
    harness = SandboxHarness(concurrency=1, queue_seconds=0.0)
    ids = [harness.submit_id(seed=number) for number in range(3)]
    harness.wait(100_000)
    assert [harness.get(each)["updated_at"] - int(START) for each in ids] == [60, 120, 180]


def test_a_queued_request_can_be_cancelled_and_gives_its_place_away() -> None:
    harness = SandboxHarness(concurrency=1, queue_seconds=0.0)
    first, second, third = (harness.submit_id(seed=number) for number in range(3))
    assert harness.call("DELETE", f"/requests/{second}").json()["status"] == "cancelled"
    assert harness.call("DELETE", f"/requests/{first}").status == 409
    harness.wait(61)
    assert [harness.get(each)["status"] for each in (first, second, third)] == ["success", "cancelled", "processing"]
    harness.wait(61)
    assert harness.get(third)["status"] == "success"
    assert {charge.request_id for charge in harness.core.journal.charges} == {first, third}


def test_cancelling_can_be_ignored_or_missing() -> None:
    ignoring, missing = SandboxHarness(cancel="ignored"), SandboxHarness(cancel="missing")
    request_id = ignoring.submit_id()
    answer = ignoring.call("DELETE", f"/requests/{request_id}")
    assert (answer.status, answer.json()["status"]) == (200, "queued")
    assert missing.call("DELETE", f"/requests/{missing.submit_id()}").status == 404


def test_a_success_is_charged_once_when_it_ends_by_seconds_and_resolution() -> None:
    harness = SandboxHarness()
    harness.submit_id(duration=10, resolution="1080P")
    assert harness.core.journal.charges == []
    harness.wait(10_000)
    harness.listed()
    harness.listed()
    (charge,) = harness.core.journal.charges
    assert (charge.usd, charge.seconds, charge.resolution) == (1.5, 10, "1080P")
    assert charge.time == pytest.approx(START + 20 + 110 * 1.6)


def test_two_sandboxes_with_one_seed_give_the_same_responses() -> None:
    def story(seed: int) -> list[object]:
        harness = SandboxHarness(
            seed=seed, queue_sigma=0.8, run_sigma=0.3, rates={"late_failure": 0.3, "reset_after_accept": 0.3}
        )
        responses: list[object] = []
        for number in range(30):
            responses.append(harness.submit(seed=number))
            harness.wait(25)
            responses.append(harness.listed())
        return responses

    assert story(1) == story(1)
    assert story(1) != story(2)
