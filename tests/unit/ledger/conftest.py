# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_wan.ledger import Submitter
from airflow_provider_wan.ledger.stores.file import FileStore
from dev.testkit.ledger import FINGERPRINT, ME, REQUEST, Api, Clock

PRICES = {"720P": 0.1, "1080P": 0.15}


@pytest.fixture
def clock() -> Any:
    return Clock()


@pytest.fixture
def api(clock: Any) -> Any:
    return Api(clock)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    return FileStore(tmp_path)


@pytest.fixture
def submitter(api: Any, store: Any, clock: Any) -> Any:
    return Submitter(api, store, clock=clock, monotonic=clock, sleep=clock.sleep, rng=random.Random(1))


@pytest.fixture
def submit(submitter: Any) -> Any:
    def call(owner: Any = ME, request: Any = REQUEST, **more: Any) -> Any:
        return submitter.submit_once(request, fingerprint=FINGERPRINT, owner=owner, prices=PRICES, **more)

    return call
