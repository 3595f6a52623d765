# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

import pytest

from airflow_provider_wan.ledger import Submission
from airflow_provider_wan.ledger.file_store import FileStore
from dev.testkit.ledger import FINGERPRINT, ME, REQUEST, Api, Clock

PRICES = {"720P": 0.1, "1080P": 0.15}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def api(clock):
    return Api(clock)


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path)


@pytest.fixture
def submission(api, store, clock):
    return Submission(api, store, clock=clock, sleep=clock.sleep, rng=random.Random(1))


@pytest.fixture
def ensure(submission):
    def call(owner=ME, request=REQUEST, **more):
        return submission.ensure(request, fingerprint=FINGERPRINT, owner=owner, prices=PRICES, **more)

    return call
