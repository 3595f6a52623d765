# SPDX-License-Identifier: Apache-2.0
"""Clips and records as the gallery hands them out."""

from __future__ import annotations

import pytest

from airflow_provider_wan.plugins.gallery import media
from airflow_provider_wan.plugins.gallery.media import MediaUnavailableError, read_clip_record
from dev.testkit.memory_s3 import MemoryS3


def test_a_clip_that_is_gone_is_reported_with_what_brings_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "s3_client", MemoryS3)
    with pytest.raises(
        MediaUnavailableError, match=r"no record beside s3://b/a\.mp4.*moved or deleted.*asks for it again"
    ):
        read_clip_record("s3://b/a.mp4")
