# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import pytest

from dev.testkit.sandbox import ImageServer, SandboxHarness


@pytest.fixture
def harness() -> SandboxHarness:
    return SandboxHarness()


@pytest.fixture(scope="session")
def image_server() -> Iterator[ImageServer]:
    server = ImageServer()
    yield server
    server.close()
