# SPDX-License-Identifier: Apache-2.0
"""What the gallery shows, and to whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_wan.plugins.gallery.clips import Clip, ClipQuery, select, spend, totals

NOW = 1_800_000_000.0
CLIP = Clip(
    fingerprint="a" * 64,
    state="archived",
    dag_id="cats",
    run_id="manual__1",
    task_id="generate",
    map_index=0,
    started_at=NOW - 200,
    submitted_at=NOW - 190,
    finished_at=NOW - 90,
    request_id="req-1",
    model="wan2.6-i2v",
    resolution="720P",
    seconds=5,
    estimate=0.5,
    cost=0.5,
    reason=None,
    permanent=False,
    archive_uri="s3://clips/a.mp4",
    source_uri="s3://photos/cat.jpg",
    attempts=1,
)
EVERYTHING = ClipQuery(dag_ids=None)


def clips(count: int, **changes: object) -> list[Clip]:
    return [
        replace(CLIP, fingerprint=f"{n:064x}", request_id=f"req-{n}", started_at=NOW - n, **changes)  # type: ignore[arg-type]
        for n in range(count)
    ]


def test_pages_hold_each_clip_once_newest_first() -> None:
    seen = []
    for page in (1, 2, 3):
        answer = select(clips(60), replace(EVERYTHING, page=page, size=24), NOW)
        seen += [clip["request_id"] for clip in answer["clips"]]
        assert answer["pages"] == 3
    assert seen == [f"req-{n}" for n in range(60)]


def test_a_page_beyond_the_last_one_is_the_last_one() -> None:
    answer = select(clips(30), replace(EVERYTHING, page=99, size=24), NOW)
    assert answer["page"] == 2
    assert len(answer["clips"]) == 6


def test_an_empty_ledger_has_one_empty_page() -> None:
    answer = select([], EVERYTHING, NOW)
    assert (answer["clips"], answer["page"], answer["pages"], answer["totals"]["clips"]) == ([], 1, 1, 0)


@pytest.mark.parametrize("hidden", ["dogs", None])
def test_a_caller_sees_no_clip_of_a_dag_that_they_may_not_read(hidden: str | None) -> None:
    mixed = [CLIP, replace(CLIP, fingerprint="b" * 64, dag_id=hidden)]
    answer = select(mixed, ClipQuery(dag_ids={"cats"}), NOW)
    assert [clip["fingerprint"] for clip in answer["clips"]] == [CLIP.fingerprint]
    assert answer["totals"]["clips"] == 1
    assert answer["dags"] == ["cats"]
    assert spend(mixed, ClipQuery(dag_ids={"cats"}))["by_dag"][0]["clips"] == 1


def test_clips_of_no_dag_are_shown_to_whoever_may_read_all() -> None:
    assert select([replace(CLIP, dag_id=None)], EVERYTHING, NOW)["matching"] == 1


def test_a_run_and_a_task_limit_the_clips() -> None:
    others = [replace(CLIP, fingerprint="b" * 64, run_id="manual__2"), replace(CLIP, fingerprint="c" * 64, task_id="x")]
    query = ClipQuery(dag_ids={"cats"}, dag_id="cats", run_id="manual__1", task_id="generate", map_index=0)
    assert [clip["fingerprint"] for clip in select([CLIP, *others], query, NOW)["clips"]] == [CLIP.fingerprint]


def test_states_and_words_filter_and_totals_stay_those_of_the_scope() -> None:
    failed = replace(CLIP, fingerprint="b" * 64, state="failed", cost=0.0, reason="Content was refused")
    answer = select([CLIP, failed], replace(EVERYTHING, states=("failed",), text="REFUSED content"), NOW)
    assert [clip["state"] for clip in answer["clips"]] == ["failed"]
    assert answer["totals"]["clips"] == 2
    assert select([CLIP, failed], replace(EVERYTHING, text="absent"), NOW)["matching"] == 0


def test_a_clip_in_flight_waits_until_now_and_an_ended_one_until_its_end() -> None:
    in_flight = replace(CLIP, state="submitted", finished_at=None)
    assert in_flight.waited(NOW) == 190
    assert CLIP.waited(NOW) == 100
    assert replace(CLIP, submitted_at=None).waited(NOW) is None


def test_money_is_added_up_by_state_and_an_unknown_price_is_counted() -> None:
    sums = totals([*clips(3), replace(CLIP, state="submitted", cost=None, estimate=None)])
    assert sums["charged"] == pytest.approx(1.5)
    assert sums["states"]["archived"] == {"clips": 3, "charged": pytest.approx(1.5), "estimate": pytest.approx(1.5)}
    assert sums["unpriced"] == 1


def test_spend_names_what_was_saved_and_charged_twice() -> None:
    row = spend([replace(CLIP, reused=2, duplicates=("req-9",))], EVERYTHING)["by_day"][0]
    assert row["saved"] == pytest.approx(1.0)
    assert (row["reused"], row["duplicates"]) == (2, 1)


def test_states_limit_the_money_and_totals_stay_those_of_the_scope() -> None:
    failed = replace(CLIP, fingerprint="b" * 64, dag_id="dogs", state="failed", cost=0.0)
    answer = spend([CLIP, failed], replace(EVERYTHING, states=("failed",)))
    assert [(row["name"], row["charged"]) for row in answer["by_dag"]] == [("dogs", 0.0)]
    assert (answer["totals"]["clips"], answer["dags"]) == (2, ["cats", "dogs"])


def test_what_is_shown_holds_no_prompt_and_no_query_string() -> None:
    assert not {"prompt", "seed"} & set(CLIP.as_dict(NOW))
