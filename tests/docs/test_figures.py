# SPDX-License-Identifier: Apache-2.0
"""Figures in the text agree with the code."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from airflow_provider_wan.media import archive, audio, image
from airflow_provider_wan.operators import media_ref
from airflow_provider_wan.sandbox import SandboxConfig
from airflow_provider_wan.sandbox.faults import SILENTLY_ACCEPTED
from airflow_provider_wan.triggers import deferral
from dev.docs.pages import ROOT

MB = 1_000_000
FIGURES = {
    "reference/operators.md": {
        f"{image.MIN_SIDE}–{image.MAX_SIDE} pixels a side": "sides",
        f"{image.MAX_SIDE / image.MIN_SIDE:.2f} times the other": "aspect",
        f"At most {image.MAX_SOURCE_BYTES // MB} MB and {image.MAX_SOURCE_PIXELS // MB} million pixels": "source",
        f"| at most {image.MAX_IMAGE_BYTES // MB} MB | at most {audio.MAX_AUDIO_BYTES // MB} MB |": "sizes",
        f"{audio.MIN_SECONDS:.0f}–{audio.MAX_SECONDS:.0f} s;": "audio",
    },
    "explanation/waiting.md": {
        f"within the first {deferral.MIN_DEFERRAL_SECONDS:.0f} s": "no event before",
        f"comes {deferral.DEFERRAL_TIMEOUT_GRACE // timedelta(minutes=1)} minutes after": "backstop",
    },
    "how-to/troubleshooting.md": {f"must be valid for {media_ref.MIN_URL_SECONDS:.0f} s more": "URL"},
    "explanation/archive.md": {f"tried {['', 'one', 'two', 'three', 'four'][archive._ATTEMPTS]} times": "downloads"},
    "reference/sandbox.md": {f"waits for about {SandboxConfig().queue_seconds:.0f} s": "queue"},
}


def unwrapped(page: str) -> str:
    """Return the text of a page with its line breaks as spaces."""
    return " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())


@pytest.mark.parametrize(("page", "text"), [(page, text) for page, texts in FIGURES.items() for text in texts])
def test_a_figure_is_that_of_the_code(page: str, text: str) -> None:
    assert text in unwrapped(page)


def test_a_minute_for_a_clip_in_the_sandbox() -> None:
    assert SandboxConfig().run_seconds[5] == 60


def test_the_times_of_the_retry_policy_are_documented() -> None:
    retry = pytest.importorskip("airflow_provider_wan.retry")
    text = unwrapped("reference/errors.md")
    assert f"after {retry.RECONCILE_DELAY // timedelta(minutes=1)} minutes if a submission is in doubt" in text
    assert f"after {retry.RESUME_DELAY.seconds} s if the clip is already paid for" in text


def test_the_faults_that_accept_a_request_without_a_response_are_documented() -> None:
    text = (ROOT / "docs" / "reference" / "sandbox.md").read_text(encoding="utf-8")
    sentence = next(part for part in text.split("\n\n") if "although the response does not show it" in part)
    assert set(re.findall(r"`(\w+)`", sentence)) == {fault.value for fault in SILENTLY_ACCEPTED}
