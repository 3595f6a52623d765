# SPDX-License-Identifier: Apache-2.0
"""Preparation of items."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from airflow_provider_wan.batch.preparer import ItemPreparer, PreparedItem
from airflow_provider_wan.batch.rows import InvalidRow, Item, RawRow, parse_row
from airflow_provider_wan.ledger import compute_fingerprint, open_store
from airflow_provider_wan.ledger.entry import cancelled, record_intent, submitted
from airflow_provider_wan.media.source import SourceUnavailableError
from airflow_provider_wan.media.url_probe import UrlProbe
from dev.testkit.ledger import NOW, a_claim
from dev.testkit.media_files import picture
from dev.testkit.web_server import WebServer

HTML = b"<html>a page</html>"


class Preparation:
    """Prepares rows whose images are on the web."""

    def __init__(self, ledger: str, *, probes: bool = True) -> None:
        nothing: Any = None
        self.ledger = open_store(ledger)
        probe = UrlProbe("http://127.0.0.1:1") if probes else None
        self.pauses: list[float] = []
        self._preparer = ItemPreparer(
            nothing, scope="", store=nothing, ledger_store=self.ledger, probe=probe, sleep=self.pauses.append
        )

    def prepare(self, **values: Any) -> PreparedItem | InvalidRow:
        return self._preparer.prepare(self.item(**values))

    @staticmethod
    def item(**values: Any) -> Item:
        item = parse_row(RawRow(7, values), {})
        assert isinstance(item, Item)
        return item


@pytest.fixture
def preparation(tmp_path: Path) -> Preparation:
    return Preparation(f"file://{tmp_path}")


def test_an_image_without_a_thumbnail_is_not_an_error() -> None:
    written: list[Any] = []

    class Store:
        def put(self, *file: Any) -> None:
            written.append(file)

    nothing: Any = None
    store: Any = Store()
    preparer = ItemPreparer(nothing, scope="", store=store, ledger_store=nothing, probe=None)

    preparer._save_thumbnail(Preparation.item(image="s3://b/3.jpg"))(b"\xff\xd8 not a picture")

    assert written == []


def test_a_row_with_a_share_page_is_set_aside_with_the_reason(preparation: Preparation, web_server: WebServer) -> None:
    prepared = preparation.prepare(image=web_server.add("/photo", HTML))

    assert isinstance(prepared, InvalidRow)
    assert prepared.reason.startswith(f"row 7: image='{web_server.url('/photo')}': is a web page")
    assert preparation.pauses == []


def test_a_sound_on_the_web_is_probed_too(preparation: Preparation, web_server: WebServer) -> None:
    image = web_server.add("/a.jpg", picture())
    prepared = preparation.prepare(image=image, audio_url=image)

    assert isinstance(prepared, InvalidRow)
    assert "audio_url=" in prepared.reason


def test_a_host_that_does_not_answer_now_is_asked_again(preparation: Preparation, web_server: WebServer) -> None:
    prepared = preparation.prepare(image=web_server.add("/a.jpg", b"", 503))

    assert isinstance(prepared, InvalidRow)
    assert "answers 503" in prepared.reason
    assert len(web_server.asked) == 3


def test_without_the_switch_nothing_is_fetched(tmp_path: Path, web_server: WebServer) -> None:
    preparation = Preparation(f"file://{tmp_path}", probes=False)

    assert isinstance(preparation.prepare(image=web_server.add("/photo", HTML)), PreparedItem)
    assert web_server.asked == []


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_the_expired_link_of_a_clip_that_is_paid_for_is_no_fault(
    preparation: Preparation, web_server: WebServer, is_cancelled: bool
) -> None:
    image = web_server.url("/expired.jpg")
    fingerprint = compute_fingerprint(preparation.item(image=image).request, scope="")
    entry = submitted(record_intent(a_claim(fingerprint=fingerprint), NOW), "r1", NOW)
    preparation.ledger.create(cancelled(entry, NOW) if is_cancelled else entry)

    prepared = preparation.prepare(image=image)

    assert isinstance(prepared, InvalidRow if is_cancelled else PreparedItem)
    assert len(web_server.asked) == int(is_cancelled)


def test_an_image_whose_store_does_not_answer_is_read_again_before_its_row_is_rejected(tmp_path: Path) -> None:
    ingest = Mock(ingest=Mock(side_effect=SourceUnavailableError("s3://b/a.png can't be read now")))
    nothing: Any = None
    pauses: list[float] = []
    preparer = ItemPreparer(ingest, scope="", store=nothing, ledger_store=nothing, probe=None, sleep=pauses.append)

    found = preparer.prepare(Preparation.item(image="s3://b/a.png"))

    assert isinstance(found, InvalidRow)
    assert (found.reason, ingest.ingest.call_count, len(pauses)) == ("row 7: s3://b/a.png can't be read now", 3, 2)
