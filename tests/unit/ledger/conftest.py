# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

import pytest

from airflow_provider_wan.ledger import Submitter
from airflow_provider_wan.ledger.stores.file import FileStore
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
def submitter(api, store, clock):
    return Submitter(api, store, clock=clock, sleep=clock.sleep, rng=random.Random(1))


@pytest.fixture
def submit(submitter):
    def call(owner=ME, request=REQUEST, **more):
        return submitter.submit_once(request, fingerprint=FINGERPRINT, owner=owner, prices=PRICES, **more)

    return call
