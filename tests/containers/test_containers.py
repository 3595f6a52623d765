# SPDX-License-Identifier: Apache-2.0
"""The shipped docker-compose.yml and Dockerfile on a real engine, in the order of this file."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import psutil
import pytest
import requests

from dev.airflow_client import AirflowClient
from dev.component import wait_for
from dev.containers.engine import Docker
from dev.containers.installation import ComposeInstallation
from dev.containers.journal import Journal
from dev.containers.packages import EngineError
from dev.testkit.airflow_harness import BUCKET, AirflowHarness, DagRunHandle
from tests.containers.conftest import FOLDER, PROJECT, unpause

AIRFLOW_SERVICES = (
    "api-server", "scheduler", "dag-processor", "worker", "worker-transfers", "triggerer-1", "triggerer-2",
)  # fmt: skip
AIRFLOW_USER = 50000
# The documented bound for the tasks of a dead worker.
RECOVERY_SECONDS = 120
HOLDERS = """
    SELECT job.id, job.hostname, count(*) FROM trigger JOIN job ON job.id = trigger.triggerer_id
    WHERE trigger.classpath LIKE '%WanI2VTrigger' GROUP BY job.id, job.hostname
"""


def start_clip(harness: AirflowHarness, name: str) -> DagRunHandle:
    return harness.start("wan_single_clip", name, target=f"s3://{BUCKET}/made/{name}.mp4")


def list_clips(installation: ComposeInstallation) -> dict[str, int]:
    """Size by key."""
    listed = installation.s3_client().list_objects_v2(Bucket=installation.bucket, Prefix="made/")
    return {each["Key"]: each["Size"] for each in listed.get("Contents", ()) if each["Key"].endswith(".mp4")}


# --- start-up -------------------------------------------------------------------------------------------------------
def test_the_checkout_can_be_read_by_its_owner_only(installation: ComposeInstallation) -> None:
    files = [installation.checkout, *installation.checkout.rglob("*")]

    assert len(files) > 100
    assert not [path for path in files if path.name != ".env" and stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_the_preflight_lets_this_engine_pass(installation: ComposeInstallation, docker: Docker) -> None:
    output = docker.run(["sh", str(installation.checkout / "deploy" / "preflight.sh")])

    assert output.startswith(f"Docker Engine {docker.version()} and Compose ")


def test_every_service_is_healthy_and_init_has_ended_well(installation: ComposeInstallation) -> None:
    for line in installation.compose("ps", "--all", "--format", "json").splitlines():
        status = json.loads(line)
        wanted = ("exited", "", 0) if status["Service"] == "init" else ("running", "healthy", 0)
        assert (status["State"], status["Health"], status["ExitCode"]) == wanted, status["Service"]


def test_building_again_leaves_no_image_without_a_name_but_the_old_one(
    installation: ComposeInstallation, docker: Docker
) -> None:
    def list_untagged() -> set[str]:
        return set(docker.run(["docker", "images", "--quiet", "--filter", "dangling=true"]).split())

    before = list_untagged()
    (installation.checkout / "dags" / "added.py").write_text("# Changed\n")
    installation.compose("build")

    assert len(list_untagged() - before) == 1


def test_the_packages_of_the_image_fit_together(installation: ComposeInstallation) -> None:
    assert "No broken requirements found." in installation.ask("worker", "pip", "check")


def test_no_process_but_the_sandboxs_s3_runs_as_root(installation: ComposeInstallation, docker: Docker) -> None:
    users: dict[str, set[int]] = {}
    for service in (*AIRFLOW_SERVICES, "postgres", "redis", "sandbox", "s3"):
        identity = installation.inspect(service)["Id"]
        pids = docker.run(["docker", "top", identity, "-eo", "pid"]).split()[1:]
        for pid in map(int, pids):
            # A health check may have ended meanwhile.
            if psutil.pid_exists(pid):
                users.setdefault(service, set()).add(psutil.Process(pid).uids().real)

    airflow = {service: users[service] for service in (*AIRFLOW_SERVICES, "sandbox")}
    assert airflow == {service: {AIRFLOW_USER} for service in airflow}
    assert 0 not in users["postgres"] | users["redis"]


def test_the_log_of_every_container_is_rotated(installation: ComposeInstallation) -> None:
    for service in (*AIRFLOW_SERVICES, "init", "postgres", "redis", "sandbox", "s3"):
        config = installation.inspect(service)["HostConfig"]["LogConfig"]
        assert config == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "5"}}, service


def test_nobody_is_let_in_without_the_drawn_password(installation: ComposeInstallation) -> None:
    for password in ("admin", "airflow", ""):
        login = {"username": "admin", "password": password}
        answer = requests.post(f"{installation.airflow.url}/auth/token", json=login, timeout=30)
        assert 400 <= answer.status_code < 500


# --- clips ----------------------------------------------------------------------------------------------------------
def test_two_photographs_become_two_clips_with_two_charges_and_logs(
    installation: ComposeInstallation, harness: AirflowHarness
) -> None:
    runs = [start_clip(harness, name) for name in ("one", "two")]

    assert [run.end(240) for run in runs] == ["success", "success"]

    assert len(harness.charges()) == 2
    clips = list_clips(installation)
    assert set(clips) == {"made/one.mp4", "made/two.mp4"}
    assert min(clips.values()) > 10_000
    for name, run in zip(("one", "two"), runs, strict=True):
        assert harness.accepted(name)[0] in run.log("generate")
        assert f"made/{name}.mp4" in run.log("archive")


# --- stops and kills ------------------------------------------------------------------------------------------------
def test_a_worker_that_is_stopped_lets_its_tasks_finish(installation: ComposeInstallation) -> None:
    run_id = installation.airflow.trigger("holding", conf={"seconds": 12})
    wait_until_running(installation, run_id, 4)

    installation.compose("stop", "worker")

    assert installation.inspect("worker")["State"]["ExitCode"] == 0
    installation.compose("start", "worker")
    assert installation.airflow.wait_for_run("holding", run_id, seconds=90) == "success"
    tasks = installation.airflow.task_instances("holding", run_id)
    assert {each["try_number"] for each in tasks} == {1}


def wait_until_running(installation: ComposeInstallation, run_id: str, count: int) -> None:
    def running() -> bool:
        return installation.airflow.states("holding", run_id)["running"] == count

    wait_for(f"{count} tasks of {run_id} to run", running, seconds=90, every=0.2)


def query(installation: ComposeInstallation, statement: str) -> list[list[str]]:
    """Query Airflow's database."""
    psql = ["psql", "--host=localhost", "--username=airflow", "--dbname=airflow", "--tuples-only", "--no-align"]
    script = f'PGPASSWORD="$POSTGRES_PASSWORD" exec "$@" --command="{statement}"'
    output = installation.ask("postgres", "sh", "-c", script, "sh", *psql)
    return [line.split("|") for line in output.splitlines() if line]


def kill(installation: ComposeInstallation, service: str) -> float:
    """SIGKILL a service's first process, as when it runs out of memory; the time.

    After 'docker kill' the engine would not restart the container, because the user stopped it.
    """
    os.kill(installation.pid(service), signal.SIGKILL)
    return time.time()


def wait_until_healthy_again(installation: ComposeInstallation, service: str) -> None:
    def healthy() -> bool:
        state = installation.inspect(service)
        return bool(state["RestartCount"]) and state["State"].get("Health", {}).get("Status") == "healthy"

    wait_for(f"{service} to be started again", healthy, seconds=180, every=1)


@contextmanager
def waiting_clips(harness: AirflowHarness, names: list[str]) -> Iterator[list[DagRunHandle]]:
    """Start runs whose clips wait in triggerers; the clips finish at the end of the context."""
    with harness.requests_paused():
        runs = [start_clip(harness, name) for name in names]
        for run in runs:
            run.wait_for("generate", "deferred", seconds=120)
        yield runs
        for name in names:
            (request_id,) = harness.accepted(name)
            harness.force(request_id, "success")


def test_a_dead_triggerers_clips_are_taken_over_and_a_dead_workers_tasks_run_again_within_two_minutes(
    installation: ComposeInstallation, harness: AirflowHarness, journal: Journal
) -> None:
    """Both die at once: the worker has tasks that run, and tasks that it has only reserved."""
    before = len(harness.charges())
    names = [f"survivor {number}" for number in range(4)]
    with waiting_clips(harness, names) as clips:
        wait_for("all to be waited for", lambda: count_waiting(installation) == len(names), seconds=90, every=0.5)
        job, triggerer, _ = max(query(installation, HOLDERS), key=lambda holder: int(holder[2]))
        running = installation.airflow.trigger("holding", conf={"seconds": 600})
        wait_until_running(installation, running, 4)
        wait_for("only these", lambda: count_unacknowledged(installation) == 4, seconds=60, every=0.2)
        stop_idle_processes(installation.pid("worker"))
        reserved = installation.airflow.trigger("holding")
        wait_for("reserved tasks", lambda: count_unacknowledged(installation) == 8, seconds=60, every=0.2)
        died = kill(installation, "worker")
        kill(installation, triggerer)
        queued = installation.airflow.states("holding", reserved)["queued"]
        wait_for(
            "other triggerers to wait for all",
            lambda: count_waiting(installation, but=job) == len(names),
            seconds=120,
            every=0.5,
        )
        reassigned_after = time.time() - died
    latest = {
        word: max(wait_for_starts(installation, run_id, died, 4)) - died
        for word, run_id in (("ran", running), ("were reserved", reserved))
    }
    journal.note("figure", text="the clips of a dead triggerer are waited for again", value=f"{reassigned_after:.0f} s")
    for word, seconds in latest.items():
        journal.note("figure", text=f"4 tasks of a dead worker that {word} run again", value=f"{seconds:.0f} s")

    assert queued == 4
    assert max(latest.values()) < RECOVERY_SECONDS
    for run_id in (running, reserved):
        assert installation.airflow.wait_for_run("holding", run_id, seconds=120) == "success"
    assert [clip.end(240) for clip in clips] == ["success"] * len(names)
    assert len(harness.charges()) - before == len(names)
    for service in ("worker", triggerer):
        wait_until_healthy_again(installation, service)


def count_waiting(installation: ComposeInstallation, but: str = "") -> int:
    """Count the clips that live triggerers wait for, except one triggerer."""
    return sum(int(count) for job, _, count in query(installation, HOLDERS) if job != but)


def wait_for_starts(installation: ComposeInstallation, run_id: str, died: float, count: int) -> list[float]:
    """Return when the tasks that ran at a kill began to run again."""
    starts: list[float] = []

    def find() -> bool:
        instances = installation.airflow.task_instances("holding", run_id)
        begun = [each["start_date"] for each in instances if each["start_date"] and each["state"] != "queued"]
        starts[:] = [start for text in begun if (start := datetime.fromisoformat(text).timestamp()) > died]
        return len(starts) >= count

    wait_for(f"{count} tasks of {run_id} to run again", find, seconds=400, every=1)
    return starts


def stop_idle_processes(pid: int) -> None:
    """Stop the worker's idle processes, so that a task that was received does not start."""
    (celery,) = psutil.Process(pid).children()
    idle = [process for process in celery.children() if not process.children()]
    assert idle
    for process in idle:
        process.suspend()


def count_unacknowledged(installation: ComposeInstallation) -> int:
    """Count the messages that the workers have received and not acknowledged."""
    return int(installation.ask("redis", "redis-cli", "HLEN", "unacked"))


# --- down and up ----------------------------------------------------------------------------------------------------
def test_nothing_has_to_be_killed_at_a_stop_and_nothing_is_lost_by_down_and_up(
    installation: ComposeInstallation, harness: AirflowHarness, journal: Journal
) -> None:
    charges, clips = harness.charges(), list_clips(installation)
    (old,) = [run for run in installation.airflow.runs("wan_single_clip") if run["conf"]["prompt"] == "one"]

    installation.compose("stop")
    killed = {
        name for name in (*AIRFLOW_SERVICES, "postgres", "redis", "s3", "sandbox")
        if installation.inspect(name)["State"]["ExitCode"] == 128 + signal.SIGKILL
    }  # fmt: skip
    installation.compose("down")
    with journal.step("docker compose up --wait, on the volumes that were there"):
        installation.compose("up", "--detach", "--wait")

    assert not killed
    assert harness.charges() == charges
    assert list_clips(installation) == clips
    run = DagRunHandle(harness, "wan_single_clip", old["dag_run_id"])
    assert harness.accepted("one")[0] in run.log("generate")
    # Nothing of it is made or paid for again.
    run.clear("generate", "archive")
    assert run.end(180) == "success"
    assert harness.charges() == charges


def test_an_s3_that_cannot_be_reached_stops_the_start_with_a_sentence(installation: ComposeInstallation) -> None:
    with pytest.raises(EngineError) as caught:
        installation.compose("run", "--rm", "--no-deps", "--env", "S3_ENDPOINT=http://127.0.0.1:1", "init")

    assert "The installation is not prepared. S3 (http://127.0.0.1:1) cannot be reached" in str(caught.value)
    assert "Traceback" not in str(caught.value)


# --- production -----------------------------------------------------------------------------------------------------
@pytest.fixture
def production(installation: ComposeInstallation, docker: Docker) -> Iterator[ComposeInstallation]:
    """Start the installation without the profile: API and S3 are outside the network of the compose file."""
    # How it stops is shown above.
    installation.compose("kill")
    installation.compose("down")
    (network,) = json.loads(docker.run(["docker", "network", "inspect", "bridge"]))
    host = network["IPAM"]["Config"][0]["Gateway"]
    images = json.loads(installation.compose("--profile", "sandbox", "config", "--format", "json"))["services"]
    variables = dict(installation.variables)
    variables.pop("COMPOSE_PROFILES")
    variables["S3_ENDPOINT"] = f"http://{host}:8333"
    variables["WAN_BASE_URL"] = f"http://{host}:8090/api/v1/ie/requestqueue/apikey"
    names = {"s3": f"{PROJECT}-elsewhere-s3", "sandbox": f"{PROJECT}-elsewhere-api"}
    secrets = FOLDER / "elsewhere.env"
    secrets.touch(mode=0o600)
    secrets.write_text(
        f"AWS_ACCESS_KEY_ID={variables['S3_ACCESS_KEY']}\nAWS_SECRET_ACCESS_KEY={variables['S3_SECRET_KEY']}\n"
        f"WAN_SANDBOX_API_KEY={variables['WAN_API_KEY']}\nCONNECTION_CHECK_MAX_COUNT=0\n"
    )
    common = ["docker", "run", "--detach", "--env-file", str(secrets)]
    ports = {"s3": ("8333",), "sandbox": ("8090", "8091")}
    production = ComposeInstallation(docker, installation.checkout, f"{PROJECT}-production", variables)
    try:
        for service, name in names.items():
            image = images[service]
            words = [
                f"--public-host={host}"
                if word.startswith("--public-host=")
                else word.replace("-ip=s3", "-ip=127.0.0.1")
                for word in (image.get("entrypoint") or [])[1:] + image["command"]
            ]
            published = [word for port in ports[service] for word in ("--publish", f"{host}:{port}:{port}")]
            docker.run([*common, "--name", name, *published, image["image"], *words])
        production.outside = {"s3": f"{host}:8333", "sandbox": f"{host}:8090"}
        wait_for("the S3 elsewhere", lambda: answers(f"http://{host}:8333/healthz"), seconds=60, every=0.5)
        production.compose("up", "--detach", "--wait")
        unpause_when_known(production.airflow)
        yield production
    finally:
        (FOLDER / "production.log").write_text(production.compose("logs", "--no-color"))
        production.compose("kill")
        production.compose("down", "--volumes")
        docker.run(["docker", "rm", "--force", "--volumes", *names.values()])
        secrets.unlink()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def unpause_when_known(airflow: AirflowClient) -> None:
    wait_for("the DAG", lambda: airflow.has_dag("wan_single_clip"), seconds=120, every=0.5)
    unpause(airflow, "wan_single_clip")


def test_production_makes_a_clip_with_an_api_and_an_s3_elsewhere(production: ComposeInstallation) -> None:
    services = set(production.compose("ps", "--all", "--services").split())
    harness = AirflowHarness(production)

    assert start_clip(harness, "production").end(240) == "success"

    assert services == {*AIRFLOW_SERVICES, "init", "postgres", "redis"}
    assert len(harness.charges()) == 1
    assert set(list_clips(production)) == {"made/production.mp4"}
