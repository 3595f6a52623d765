# SPDX-License-Identifier: Apache-2.0
"""What is made ready beside the clip itself."""

from __future__ import annotations

from typing import Any

from airflow_provider_wan.batch.prepare import Preparer


def test_an_image_of_which_no_small_picture_can_be_made_is_no_reason_to_stop() -> None:
    kept: list[Any] = []

    class Journal:
        def put(self, *file: Any) -> None:
            kept.append(file)

    nothing: Any = None
    journal: Any = Journal()
    preparer = Preparer(nothing, scope="", force_token=None, journal=journal)

    preparer._still(3)(b"\xff\xd8 not a picture")

    assert kept == []
