# SPDX-License-Identifier: Apache-2.0
"""Preparation of items."""

from __future__ import annotations

from typing import Any

from airflow_provider_wan.batch.preparer import ItemPreparer


def test_an_image_without_a_thumbnail_is_not_an_error() -> None:
    written: list[Any] = []

    class Store:
        def put(self, *file: Any) -> None:
            written.append(file)

    nothing: Any = None
    store: Any = Store()
    preparer = ItemPreparer(nothing, scope="", store=store)

    preparer._save_thumbnail(3)(b"\xff\xd8 not a picture")

    assert written == []
