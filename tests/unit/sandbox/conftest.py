# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev.testkit.sandbox import Desk, Origin


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(scope="session")
def origin() -> Iterator[Origin]:
    server = Origin()
    yield server
    server.close()
