# SPDX-License-Identifier: Apache-2.0
"""The gallery's page in a browser, with answers that are late, refused or odd."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from airflow.api_fastapi.core_api.security import get_user
from fastapi import HTTPException

from airflow_provider_wan.plugins.gallery import app as app_module
from airflow_provider_wan.plugins.gallery.app import create_app
from airflow_provider_wan.plugins.gallery.clips import Clip
from airflow_provider_wan.plugins.gallery.index import REFRESH_SECONDS, ClipIndex, KnownLedger
from dev.testkit.browser import find_browser, open_browser, wait_in
from tests.unit.plugins.gallery.test_clips import CLIP

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = pytest.mark.skipif(find_browser() is None, reason="needs Chromium and chromedriver")

CAT = replace(CLIP, source_uri=None, archive_uri=None)
DOG = replace(CAT, fingerprint="b" * 64, dag_id="dogs", state="failed", cost=0.0)


class Ledger:
    """Clips that a test changes."""

    def __init__(self, *clips: Clip) -> None:
        self.stored = list(clips)
        self.now = 1_800_000_000.0

    def ledgers(self) -> list[KnownLedger]:
        return [KnownLedger("s3://deployment/ledger")]

    def clips(self, ledger: KnownLedger, modified_since: float | None) -> list[Clip]:
        return self.stored

    def change(self, *clips: Clip) -> None:
        self.stored = list(clips)
        self.now += REFRESH_SECONDS


class Gallery:
    """The application on a port, whose answers a test holds back or refuses."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.may_read = True
        self.is_delayed: Callable[[str], bool] = lambda query: False
        self.waiting = 0
        app = create_app(ClipIndex(ledger, lambda: ledger.now))
        app.dependency_overrides[get_user] = lambda: SimpleNamespace(username="admin")
        app.dependency_overrides[app_module.may_read_dag.dependency] = lambda: None

        @app.middleware("http")
        async def hold(request: Any, call_next: Any) -> Any:
            if request.url.path.startswith("/api/") and self.is_delayed(request.url.query):
                self.waiting += 1
                while self.is_delayed(request.url.query):
                    await asyncio.sleep(0.02)
                self.waiting -= 1
            return await call_next(request)

        self._server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}/"

    def check_dag(self, *_: Any) -> None:
        if not self.may_read:
            raise HTTPException(403)

    def stop(self) -> None:
        self.is_delayed = lambda query: False
        self._server.should_exit = True
        self._thread.join(30)


@pytest.fixture
def gallery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gallery]:
    running = Gallery(Ledger(CAT, DOG))
    dag_ids = {"cats", "dogs"}
    manager = SimpleNamespace(is_authorized_dag=lambda **_: True, get_authorized_dag_ids=lambda **_: dag_ids)
    monkeypatch.setattr(app_module, "get_auth_manager", lambda: manager)
    monkeypatch.setattr(app_module, "_check_dag", running.check_dag)
    monkeypatch.setattr(app_module, "list_batches", lambda *_: [])
    yield running
    running.stop()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    with open_browser(tmp_path / "profile") as each:
        yield each


def states(browser: Chrome) -> Any:
    return browser.execute_script("return [...document.querySelectorAll('.card')].map(card => card.dataset.state)")


def options(browser: Chrome) -> Any:
    return browser.execute_script("return [...document.querySelectorAll('#dag option')].map(each => each.value)")


def main_text(browser: Chrome) -> str:
    return str(browser.execute_script("return document.getElementById('main').innerText"))


def press(browser: Chrome, text: str) -> None:
    browser.find_element("xpath", f"//button[contains(., '{text}')]").click()


def test_a_late_answer_does_not_replace_what_was_asked_for_since(gallery: Gallery, browser: Chrome) -> None:
    browser.get(gallery.url)
    wait_in(browser, 30, lambda: len(states(browser)) == 2, "no clips")
    gallery.is_delayed = lambda query: "state=" not in query
    browser.execute_script("refresh(); return null")
    wait_in(browser, 30, lambda: gallery.waiting == 1, "no question")
    press(browser, "failed")
    wait_in(browser, 30, lambda: states(browser) == ["failed"], "no filter")
    gallery.is_delayed = lambda query: False
    wait_in(browser, 30, lambda: gallery.waiting == 0, "no late answer")
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert states(browser) == ["failed"]


def test_a_page_asks_no_second_question_before_the_first_is_answered(gallery: Gallery, browser: Chrome) -> None:
    source = """
        const ask = window.fetch, every = window.setInterval;
        window.asked = 0;
        window.fetch = (...given) => { window.asked += 1; return ask(...given); };
        window.setInterval = (call) => every(call, 50);
    """
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    gallery.is_delayed = lambda query: True
    browser.get(gallery.url)
    wait_in(browser, 30, lambda: gallery.waiting == 1, "no question")
    browser.execute_async_script("setTimeout(arguments[0], 500)")
    assert browser.execute_script("return window.asked") == 1


def test_the_filter_by_dag_follows_the_ledger_and_keeps_its_choices(gallery: Gallery, browser: Chrome) -> None:
    gallery.ledger.stored = [CAT]
    browser.get(gallery.url)
    wait_in(browser, 30, lambda: states(browser) == ["archived"], "no clips")
    gallery.ledger.change(CAT, DOG)
    wait_in(browser, 30, lambda: options(browser) == ["", "cats", "dogs"], "no second Dag")
    select = browser.find_element("id", "dag")
    select.find_element("css selector", "option[value=dogs]").click()
    wait_in(browser, 30, lambda: states(browser) == ["failed"], "no filter")
    assert options(browser) == ["", "cats", "dogs"]


def test_the_spend_page_shows_and_follows_the_filters_that_limit_it(gallery: Gallery, browser: Chrome) -> None:
    browser.get(f"{gallery.url}spend#dag=dogs")
    wait_in(browser, 30, lambda: "dogs" in main_text(browser), "no table")
    assert browser.find_element("id", "dag").get_attribute("value") == "dogs"
    browser.get(f"{gallery.url}spend?all")
    wait_in(browser, 30, lambda: "cats" in main_text(browser), "no table")
    press(browser, "failed")
    rows = "return [...document.querySelectorAll('td:first-child')].map(cell => cell.textContent)"
    wait_in(browser, 30, lambda: "cats" not in browser.execute_script(rows), "no filter by state")


def test_a_dag_that_is_named_like_a_state_keeps_its_name(gallery: Gallery, browser: Chrome) -> None:
    gallery.ledger.stored = [replace(CAT, dag_id="submitted"), replace(DOG, dag_id="constructor")]
    browser.get(f"{gallery.url}spend")
    wait_in(browser, 30, lambda: "By Dag" in main_text(browser), "no table")
    rows = (
        "return [...document.querySelectorAll('table')[0].querySelectorAll('td:first-child')].map(c => c.textContent)"
    )
    assert browser.execute_script(rows) == ["constructor", "submitted"]


def test_days_without_clips_are_days_of_the_plot(gallery: Gallery, browser: Chrome) -> None:
    day = 86400
    later = replace(DOG, started_at=CAT.started_at + 3 * day, submitted_at=CAT.started_at + 3 * day)
    gallery.ledger.stored = [CAT, later]
    browser.get(f"{gallery.url}spend")
    wait_in(browser, 30, lambda: "By Dag" in main_text(browser), "no table")
    assert len(browser.find_elements("css selector", "svg rect.charged")) == 4
    gallery.ledger.change(CAT, replace(later, submitted_at=CAT.started_at + 300 * day))
    wait_in(browser, 30, lambda: "the last 60 days" in main_text(browser), "no limit")
    assert len(browser.find_elements("css selector", "svg rect.charged")) == 60


def test_a_clip_that_cannot_be_loaded_is_no_black_box(
    gallery: Gallery, browser: Chrome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "media_url", lambda uri: f"{gallery.url}gone.mp4")
    monkeypatch.setattr(app_module, "read_clip_record", lambda uri: {})
    gallery.ledger.stored = [replace(CAT, archive_uri="s3://b/a.mp4")]
    browser.get(gallery.url)
    wait_in(browser, 30, lambda: "can't be loaded" in main_text(browser), "no word on the card")
    browser.find_element("css selector", ".media").click()
    detail = "return document.getElementById('detail').innerText"
    wait_in(browser, 30, lambda: "no longer at s3://b/a.mp4" in browser.execute_script(detail), "no word in the dialog")


@pytest.mark.parametrize("path", ["100% a+b/c", "100%25%20a%2Bb%2Fc"], ids=["plain", "encoded"])
def test_the_tab_of_a_run_finds_it_whatever_its_name_and_encoding(gallery: Gallery, browser: Chrome, path: str) -> None:
    """Airflow 3.1 puts names into the addresses of tabs as they are, and later versions encode them."""
    gallery.ledger.stored = [replace(CAT, run_id="100% a+b/c"), replace(DOG, dag_id="cats", run_id="100%")]
    browser.get(f"{gallery.url}dags/cats/runs/{path}")
    wait_in(browser, 30, lambda: states(browser) == ["archived"], "no clip of the run")


def test_whoever_may_no_longer_read_a_dag_sees_its_clips_no_longer(gallery: Gallery, browser: Chrome) -> None:
    browser.get(f"{gallery.url}dags/cats")
    wait_in(browser, 30, lambda: states(browser) == ["archived"], "no clips")
    gallery.may_read = False
    wait_in(browser, 30, lambda: main_text(browser) == "", "clips are still there")
    assert "You may not read this Dag" in browser.find_element("id", "problem").text
