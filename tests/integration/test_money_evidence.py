# SPDX-License-Identifier: Apache-2.0
"""What counts as proof: a lost submission against a list that is incomplete or late, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.api.client import WanClient
from airflow_provider_wan.api.config import WanConfig
from airflow_provider_wan.api.errors import WanError, WanInDoubtError, WanRateLimitError
from airflow_provider_wan.api.request import I2VRequest, RawRequest, Wan27I2VRequest, WanRequest
from airflow_provider_wan.ledger import Owner, Policy, Submitter, compute_fingerprint
from airflow_provider_wan.ledger.stores.file import FileStore
from airflow_provider_wan.sandbox import SandboxServer
from airflow_provider_wan.sandbox.core import SandboxCore
from airflow_provider_wan.sandbox.faults import Fault
from dev.testkit.history import ViolationKind, find_violations

REQUEST = I2VRequest("https://images.example.com/cat.png", prompt="a cat", resolution="720P")
FIRST, RETRY = Owner("dag/run/clip", 1, "first"), Owner("dag/run/clip", 2, "retry")
P = Policy()


def _add_console_request(age: float, core: SandboxCore) -> None:
    core.admin.console(age=age)


class World:
    """A sandbox and a ledger with a common clock, which advances only by sleeping."""

    def __init__(self, sandbox: SandboxServer, folder: Path) -> None:
        self.sandbox = sandbox
        self.store = FileStore(folder)
        self.client = WanClient(WanConfig(sandbox.api_key, sandbox.base_url), sleep=lambda _: None)
        self.slept = 0.0
        self._start = sandbox.call(lambda core: core.now())

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.sandbox.call(lambda core: core.shift(seconds))

    def now(self) -> float:
        return self.sandbox.call(lambda core: core.now())

    def submit(
        self, owner: Owner, request: WanRequest = REQUEST, *, deadline: float | None = 1500.0, run: str = ""
    ) -> Any:
        submitter = Submitter(self.client, self.store, clock=self.now, monotonic=self.now, sleep=self.sleep)
        return submitter.submit_once(
            request,
            fingerprint=compute_fingerprint(request, scope=run),
            owner=owner,
            deadline=None if deadline is None else self.now() + deadline,
        )

    def outcome(self, owner: Owner, request: WanRequest = REQUEST, **more: Any) -> Any:
        try:
            return self.submit(owner, request, **more)
        except WanError as error:
            return error

    def age_account(self, *ages: float) -> None:
        for age in ages or (20_000.0, 10_000.0):
            self.sandbox.call(partial(_add_console_request, age))

    def others(self, count: int) -> None:
        self.sandbox.call(lambda core: core.admin.seed(count, never=True))

    def check_history(self, logs: str) -> None:
        """Check that ledger and service agree; entries may be in doubt. Each test counts its payments itself."""
        charges = [{"request_id": each["request_id"]} for each in self.paid]
        ledger = [stored.entry for stored in self.store.entries()]
        found = find_violations(
            self.paid, charges, ledger, finished=False, dump={"the logs": logs}, keys=[self.sandbox.api_key]
        )
        assert [each for each in found if each.kind is not ViolationKind.PAID_TWICE] == []

    @property
    def paid(self) -> list[dict[str, Any]]:
        return [each for each in self.sandbox.accepted() if each["origin"] == "api"]


@pytest.fixture
def world(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    with SandboxServer(render="none", run_sigma=0.0, models=("wan2.6-i2v", "wan2.7-i2v", RAW.model)) as sandbox:
        world = World(sandbox, tmp_path)
        yield world
        world.check_history(caplog.text)


#: A worker's POST is accepted and its response lost; the worker dies; 120 others submit; the retry scans the list.
LIES = [
    Fault.LIST_WITHOUT_PAGING,
    Fault.LIST_TOTAL_OF_PAGE,
    Fault.LIST_KEEPS_NEWEST,
    Fault.LIST_ENDS_AT_OFFSET,
    Fault.LIST_SAYS_NO_MORE,
    Fault.LIST_OFFSET_IN_PAGES,
    Fault.LIST_OLDEST_CAPPED,
    Fault.LIST_EMPTY,
]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("history", ["a new account", "an old account"])
def test_a_list_that_lies_never_leads_to_a_second_payment(world: World, lie: Fault, history: str) -> None:
    if history == "an old account":
        world.age_account(*(10_000.0 + n for n in range(120)))
    world.sandbox.inject(Fault.RESET_AFTER_ACCEPT)
    world.sandbox.inject(Fault.LIST_500, count=None)
    assert isinstance(world.outcome(FIRST), WanInDoubtError)
    world.others(120)
    world.sandbox.call(lambda core: core.faults.clear())
    world.sandbox.inject(lie, count=None)
    for number in (2, 3):
        got = world.outcome(Owner(RETRY.task, number, str(number)))
        if isinstance(got, WanInDoubtError):
            assert "wan-provider reconcile" in str(got)
        else:
            assert got.entry.request_id == world.paid[0]["request_id"]
    assert len(world.paid) == 1


@pytest.mark.parametrize("lie", [None, Fault.LIST_NEEDS_MODEL])
def test_an_honest_list_shows_the_request_behind_120_others(world: World, lie: Fault | None) -> None:
    world.sandbox.inject(Fault.RESET_AFTER_ACCEPT)
    world.sandbox.inject(Fault.LIST_500, count=None)
    assert isinstance(world.outcome(FIRST), WanInDoubtError)
    world.others(120)
    world.sandbox.call(lambda core: core.faults.clear())
    if lie:
        world.sandbox.inject(lie, count=None)
    assert world.submit(RETRY).entry.request_id == world.paid[0]["request_id"]


def test_a_proven_absence_is_paid_for_once_more(world: World) -> None:
    world.age_account()
    world.sandbox.inject(Fault.RESET_BEFORE_ACCEPT)
    got = world.submit(FIRST)
    assert got.paid_now
    assert world.slept == pytest.approx(P.absence_confirm_interval, abs=1)
    assert len(world.paid) == 1


def test_lost_responses_and_an_empty_list_cost_one_payment_and_stop(world: World) -> None:
    world.sandbox.inject(Fault.RESET_AFTER_ACCEPT, count=None)
    world.sandbox.inject(Fault.LIST_EMPTY, count=None)
    for number in range(1, 6):
        assert isinstance(world.outcome(Owner(FIRST.task, number, str(number)), deadline=None), WanInDoubtError)
    assert len(world.paid) == 1


def test_a_list_that_seems_to_prove_an_absence_costs_at_most_one_more_payment_per_attempt(world: World) -> None:
    world.age_account()
    world.sandbox.inject(Fault.RESET_AFTER_ACCEPT, count=None)
    world.sandbox.call(lambda core: core.configure(list_lag=9000.0))
    for number in (1, 2, 3):
        got = world.outcome(Owner(FIRST.task, number, str(number)), deadline=None)
        assert isinstance(got, WanInDoubtError)
        assert "once already" in str(got)
        assert len(world.paid) == number + 1


ECHOES = [
    (Fault.FILED_ELSEWHERE,),
    (Fault.MODEL_DIFFERS,),
    (Fault.ECHO_SEED_FLOAT,),
    (Fault.ECHO_SEED_PADDED,),
    (Fault.ECHO_ELABORATED,),
    (Fault.ECHO_IMAGE_MOVED,),
    (Fault.ECHO_SEED_FLOAT, Fault.ECHO_ELABORATED, Fault.ECHO_IMAGE_MOVED, Fault.FILED_ELSEWHERE),
]


@pytest.mark.parametrize("shapes", ECHOES, ids=lambda shapes: "+".join(shapes))
def test_a_request_is_found_however_the_service_files_and_repeats_it(world: World, shapes: tuple[Fault, ...]) -> None:
    world.age_account()
    for fault in (Fault.RESET_AFTER_ACCEPT, *shapes):
        world.sandbox.inject(fault)
    assert world.submit(FIRST).entry.request_id == world.paid[0]["request_id"]
    assert len(world.paid) == 1


@pytest.mark.parametrize("shapes", [(), (Fault.ECHO_ELABORATED,), (Fault.ECHO_ELABORATED, Fault.ECHO_IMAGE_MOVED)])
def test_a_request_whose_seed_is_not_repeated_stops_the_clip(world: World, shapes: tuple[Fault, ...]) -> None:
    world.age_account()
    for fault in (Fault.RESET_AFTER_ACCEPT, Fault.ECHO_WITHOUT_SEED, *shapes):
        world.sandbox.inject(fault)
    got = world.outcome(FIRST)
    assert isinstance(got, WanInDoubtError)
    assert world.paid[0]["request_id"] in str(got)
    assert len(world.paid) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Fault.GATEWAY_403_ACCEPTED,
        Fault.GATEWAY_404_ACCEPTED,
        Fault.GATEWAY_429_ACCEPTED,
        Fault.GATEWAY_503_ACCEPTED,
        Fault.HTML_502_ACCEPTED,
    ],
)
def test_a_gateways_answer_after_the_acceptance_is_not_a_refusal(world: World, answer: Fault) -> None:
    world.age_account()
    world.sandbox.inject(answer)
    got = world.submit(FIRST)
    assert got.entry.request_id == world.paid[0]["request_id"]
    assert len(world.paid) == 1


def test_the_services_own_refusal_is_not_paid_for_and_sent_again(world: World) -> None:
    world.sandbox.inject(Fault.RATE_LIMIT_429)
    assert world.submit(FIRST).paid_now
    assert len(world.paid) == 1
    world.sandbox.inject(Fault.CAPACITY_503, count=None)
    other = I2VRequest("https://images.example.com/dog.png", resolution="720P")
    assert isinstance(world.outcome(FIRST, other, deadline=3.0), WanError)
    assert not isinstance(world.outcome(FIRST, other, deadline=3.0), WanRateLimitError | WanInDoubtError)
    assert len(world.paid) == 1


def test_a_request_that_is_found_and_404_by_id_for_a_while_is_waited_for(world: World) -> None:
    world.age_account()
    world.sandbox.inject(Fault.RESET_AFTER_ACCEPT)
    world.sandbox.inject(Fault.GET_404, count=None)
    for number in (1, 2, 3):
        got = world.submit(Owner(FIRST.task, number, str(number)))
        assert got.entry.request_id == world.paid[0]["request_id"]
        assert not got.record.status.is_terminal
    assert len(world.paid) == 1


SEEDED = REQUEST.with_seed(42)


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_dead_twin_of_another_run_is_not_adopted_with_a_users_seed(world: World, end: str) -> None:
    world.age_account()
    twin = world.submit(Owner("dag/run1/clip", 1, "a"), SEEDED, run="run1").entry.request_id
    world.sandbox.finish(twin, end, "internal error")
    world.sandbox.inject(Fault.RESET_AFTER_ACCEPT)
    got = world.submit(Owner("dag/run2/clip", 1, "b"), SEEDED, run="run2")
    assert got.entry.request_id == world.paid[1]["request_id"]
    assert len(world.paid) == 2


def test_two_runs_with_one_users_seed_never_share_a_request(world: World) -> None:
    world.age_account()
    for run in ("run1", "run2"):
        world.sandbox.inject(Fault.RESET_AFTER_ACCEPT)
        world.sandbox.inject(Fault.LIST_500, count=15)
        assert isinstance(world.outcome(Owner(f"dag/{run}/clip", 1, "a"), SEEDED, run=run), WanInDoubtError)
        world.sandbox.call(lambda core: core.faults.clear())
        world.sleep(2.0)
    assert isinstance(
        world.outcome(Owner("dag/run2/clip", 2, "b"), SEEDED, run="run2", deadline=300.0), WanInDoubtError
    )
    first = world.submit(Owner("dag/run1/clip", 2, "b"), SEEDED, run="run1").entry.request_id
    second = world.submit(Owner("dag/run2/clip", 3, "c"), SEEDED, run="run2").entry.request_id
    assert [first, second] == [each["request_id"] for each in world.paid]


def test_a_second_request_that_is_accepted_late_is_reported_and_counted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.age_account()
    world.sandbox.inject(Fault.RESET_AFTER_ACCEPT)
    # Beyond the envelope: the list is an hour behind.
    world.sandbox.call(lambda core: core.configure(list_lag=3600.0))
    entry = world.submit(FIRST).entry
    assert len(world.paid) == 2
    world.sandbox.call(lambda core: core.configure(list_lag=0.0))
    world.sleep(P.absence_confirm_interval)
    again = world.submit(RETRY).entry
    assert [past.request_id for past in again.duplicates] == [world.paid[0]["request_id"]]
    assert again.request_id == entry.request_id
    assert "paid for twice" in caplog.text


WAN27 = Wan27I2VRequest("https://images.example.com/cat.png", prompt="a cat", resolution="720P", duration=4)
RAW = RawRequest("kling-v3", {"image": "https://images.example.com/cat.png", "text": "a cat", "length": "long"}, 0.7)
RAW_SEEDED = RawRequest("kling-v3", {"image": "https://images.example.com/cat.png", "seed": 7}, 0.7)


@pytest.mark.parametrize("request_", [WAN27, RAW, RAW_SEEDED], ids=["wan2.7-i2v", "raw", "raw with its seed"])
def test_a_lost_response_of_another_model_is_found_by_its_seed_and_not_paid_for_twice(
    world: World, request_: Any
) -> None:
    world.age_account()
    world.sandbox.inject("reset_after_accept")

    first = world.submit(FIRST, request_)
    again = world.submit(RETRY, request_)

    assert first.entry.request_id == again.entry.request_id == world.paid[0]["request_id"]
    assert not first.paid_now
    assert len(world.paid) == 1


@pytest.mark.parametrize("fault", [Fault.ECHO_WITHOUT_SEED, Fault.EMPTY_ECHO])
def test_a_lost_response_of_a_raw_payload_that_can_not_be_recognized_stays_in_doubt(world: World, fault: Fault) -> None:
    world.age_account()
    world.sandbox.inject("reset_after_accept")
    world.sandbox.inject(fault, count=None)

    for owner in (FIRST, RETRY):
        error = world.outcome(owner, RAW)
        assert isinstance(error, WanInDoubtError)
        assert "may be it" in str(error)
    assert len(world.paid) == 1
