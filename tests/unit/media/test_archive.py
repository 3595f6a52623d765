# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from airflow_provider_wan.media.archive import ClipArchive


@pytest.mark.parametrize("step", ["read", "write"])
def test_a_copy_that_breaks_off_leaves_the_clip_to_be_downloaded(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: Any) -> Any:
        raise EndpointConnectionError(endpoint_url="https://s3.example")

    archive = ClipArchive(None, hosts=None)  # type: ignore[arg-type]
    monkeypatch.setattr(archive, "find", lambda *_: SimpleNamespace(deviations=()))
    monkeypatch.setattr(archive, "_write_once", fail)
    read = fail if step == "read" else lambda *_: b"{}"
    monkeypatch.setattr("airflow_provider_wan.media.archive.read_object", read)
    assert archive.copy("s3://bucket/old.mp4", "bucket", "new.mp4", "r1") is None
