# SPDX-License-Identifier: Apache-2.0
"""The example Dags on the cluster: Celery, two workers, two triggerers."""

from __future__ import annotations

from datetime import UTC, datetime

import requests

from dev.cluster import Cluster
from dev.component import wait_for
from dev.testkit.airflow_harness import BUCKET, PHOTOS, AirflowHarness, DagRunHandle
from dev.testkit.batch_runs import crops
from dev.testkit.statsd import Statsd

MAPPED, BATCH = 6, 8
WHO_WAITS = """
    SELECT job.hostname, count(*) FROM trigger JOIN job ON job.id = trigger.triggerer_id
    WHERE trigger.classpath LIKE '%%WanI2VTrigger' GROUP BY job.hostname
"""


def test_all_parts_are_healthy_and_the_page_of_airflow_answers(cluster: Cluster) -> None:
    assert set(cluster.airflow.health().values()) == {"healthy"}

    page = requests.get(cluster.url, timeout=30)

    assert page.status_code == 200
    assert "<html" in page.text


def test_nobody_is_let_in_without_the_drawn_password(cluster: Cluster) -> None:
    for password in ("admin", "airflow", ""):
        answer = requests.post(
            f"{cluster.url}/auth/token", json={"username": "admin", "password": password}, timeout=30
        )
        assert 400 <= answer.status_code < 500
        assert "access_token" not in answer.text


def test_the_init_step_made_the_pool_that_counts_what_waits(cluster: Cluster) -> None:
    assert cluster.airflow.call("GET", "/pools/wan_clips")["include_deferred"] is True


def test_mapped_clips_and_a_batch_are_made_by_both_workers_and_both_triggerers(
    cluster: Cluster, harness: AirflowHarness, yesterday: str
) -> None:
    s3 = cluster.s3_client()
    for photo in sorted(PHOTOS.glob("*.jpg"))[:MAPPED]:
        s3.upload_file(str(photo), BUCKET, f"images/{yesterday}/{photo.name}")
    for number, body in enumerate(crops(BATCH, seed=3)):
        s3.put_object(Bucket=BUCKET, Key=f"datasets/images/{yesterday}/{number}.jpg", Body=body)
    before, accepted = len(harness.charges()), list_accepted(cluster)
    # The last whole day before now is the run's data interval.
    now = datetime.now(UTC)
    with harness.requests_paused():
        mapped = DagRunHandle(
            harness, "wan_image_to_video", cluster.airflow.trigger("wan_image_to_video", logical_date=now)
        )
        waiting: dict[str, int] = {}

        def all_wait() -> bool:
            waiting.update(cluster.rows(WHO_WAITS))
            return sum(waiting.values()) == MAPPED

        wait_for("all clips to wait in triggerers", all_wait, seconds=150, every=0.5)
    # Requests that were submitted while paused never finish by themselves.
    for request_id in list_accepted(cluster) - accepted:
        harness.force(request_id, "success")
    batch = DagRunHandle(
        harness, "wan_dataset_backfill", cluster.airflow.trigger("wan_dataset_backfill", logical_date=now)
    )

    assert mapped.end(240) == "success"
    assert batch.end(240) == "success"

    assert set(waiting) == {"triggerer-1", "triggerer-2"}
    assert list_workers(cluster, mapped, "clip.generate") == {"worker"}
    assert (
        list_workers(cluster, mapped, "clip.archive")
        == list_workers(cluster, mapped, "clip.ingest")
        == {"worker-transfers"}
    )
    assert len(harness.charges()) - before == MAPPED + BATCH
    assert batch.result("clips")["archived"] == BATCH
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"clips/{yesterday}/")["Contents"]
    assert sum(each["Key"].endswith(".mp4") for each in found) == MAPPED


def test_workers_and_triggerers_report_to_airflows_metrics(cluster: Cluster, statsd: Statsd) -> None:
    """Runs after the clips of the test above."""
    counters = statsd.counters
    assert counters["airflow.wan.api.submit.200"] >= MAPPED + BATCH
    assert counters["airflow.wan.clips.submitted"] >= MAPPED + BATCH
    assert counters["airflow.wan.clips.archived"] >= MAPPED + BATCH
    assert counters["airflow.wan.cost_cents"] >= 50 * (MAPPED + BATCH)
    assert {"airflow.wan.in_flight.triggerer-1", "airflow.wan.in_flight.triggerer-2"} <= set(statsd.gauges)
    assert "airflow.wan.lag" in statsd.timings


def list_accepted(cluster: Cluster) -> set[str]:
    """Return the ids of all requests that the sandbox accepted."""
    return {each["request_id"] for each in cluster.sandbox_admin("accepted")["accepted"]}


def list_workers(cluster: Cluster, run: DagRunHandle, task_id: str) -> set[str]:
    """Return the hosts on which a task's instances ran."""
    return {each["hostname"] for each in cluster.airflow.task_instances(run.dag_id, run.run_id, task_id)}
