# SPDX-License-Identifier: Apache-2.0
"""
Takes the documentation's pictures of the gallery, with a real Airflow and a real Chromium: ``make pictures``.

It prints how long the page of each took to its first paint, and how long Airflow's own page of a run with as many task
instances took. ``--measure`` takes no pictures.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from dev.stack import ROOT
from dev.testkit.browser import log_in, open_browser
from dev.testkit.gallery import GalleryServer, gallery_server

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

IMAGES = ROOT / "docs" / "images"
DAG = "wan_image_to_video"


def _wait(browser: Chrome, selector: str, seconds: float = 60) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, seconds).until(lambda page: page.find_elements(By.CSS_SELECTOR, selector))


def _wait_for_posters(browser: Chrome) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    script = (
        "return [...document.querySelectorAll('.card video')].filter(v => v.src).every(v => v.readyState >= 2)"
        " && [...document.querySelectorAll('.card img')].filter(i => i.src).every(i => i.complete)"
    )
    WebDriverWait(browser, 60).until(lambda page: page.execute_script(script))


def _first_paint(browser: Chrome) -> float:
    """Return the milliseconds to the first contentful paint."""
    script = "return performance.getEntriesByName('first-contentful-paint')[0].startTime"
    return float(browser.execute_script(script))


def take(server: GalleryServer, count: str, folder: Path) -> None:
    """
    Take the pictures of a server.

    :param server: the API server, with its ledger.
    :param count: how many clips it has; part of the pictures' names.
    :param folder: of the browser's profiles.
    """
    from selenium.webdriver.common.by import By

    for theme in ("light", "dark"):
        with open_browser(folder / f"profile-{count}-{theme}", width=1360, height=980) as browser:
            log_in(browser, server.home.url, server.token("admin"))
            browser.execute_script("localStorage.setItem('theme', arguments[0])", theme)
            browser.get(f"{server.url}/")
            _wait(browser, ".card")
            print(f"{count} clips, {theme}: first contentful paint after {_first_paint(browser):.0f} ms")
            for name, path in (("all", "/plugin/wan-clips"), ("dag", f"/dags/{DAG}/plugin/wan-dag")):
                browser.get(f"{server.home.url}{path}")
                _wait(browser, "iframe")
                browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
                _wait(browser, ".card")
                _wait_for_posters(browser)
                time.sleep(1)  # Chromium composes the last frames after they are decoded
                browser.save_screenshot(str(IMAGES / f"gallery-{name}-{count}-{theme}.png"))
                if name == "all":
                    browser.find_element(By.CSS_SELECTOR, '.card[data-state="archived"] .media').click()
                    _wait(browser, "#detail .prompt")
                    time.sleep(1)
                    browser.save_screenshot(str(IMAGES / f"gallery-clip-{count}-{theme}.png"))
                browser.switch_to.default_content()
            browser.get(f"{server.home.url}/plugin/wan-spend")
            _wait(browser, "iframe")
            browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
            _wait(browser, "svg rect")
            browser.save_screenshot(str(IMAGES / f"gallery-spend-{count}-{theme}.png"))


def add_task_instances(server: GalleryServer, count: int) -> str:
    """
    Make a run whose mapped task has ended so many times.

    :param server: the API server.
    :param count: number of task instances.
    :returns: the run's id.
    """
    headers = {"Authorization": f"Bearer {server.token('admin')}"}
    url = f"{server.home.url}/api/v2/dags/{DAG}/dagRuns"
    response = requests.post(url, json={"logical_date": None}, headers=headers, timeout=60)
    response.raise_for_status()
    run_id = str(response.json()["dag_run_id"])
    with sqlite3.connect(server.home.database, timeout=60) as connection:
        connection.row_factory = sqlite3.Row
        query = "select * from task_instance where run_id = ? and task_id = 'clip.generate'"
        first = dict(connection.execute(query, (run_id,)).fetchone())
        now = time.strftime("%Y-%m-%d %H:%M:%S.000000", time.gmtime())
        ended = {"state": "success", "start_date": now, "end_date": now, "duration": 60.0, "try_number": 1}
        connection.execute("delete from task_instance where id = ?", (first["id"],))
        connection.executemany(
            f"insert into task_instance ({', '.join(first)}) values ({', '.join('?' * len(first))})",
            [tuple((first | ended | {"id": uuid.uuid4().hex, "map_index": index}).values()) for index in range(count)],
        )
    return run_id


def measure(server: GalleryServer, count: int, folder: Path) -> None:
    """
    Print how long the gallery and Airflow's own page of a run take to show something.

    :param server: the API server, whose ledger has as many clips.
    :param count: number of task instances.
    :param folder: of the browser's profile.
    """
    run_id = add_task_instances(server, count)
    pages = {
        "gallery alone": (f"{server.url}/", ".card"),
        "gallery in the tab of the Dag": (f"{server.home.url}/dags/{DAG}/plugin/wan-dag", "iframe"),
        "Airflow's page of the run": (f"{server.home.url}/dags/{DAG}/runs/{run_id}", "table tbody tr"),
    }
    with open_browser(folder / "profile-measure", width=1360, height=980) as browser:
        log_in(browser, server.home.url, server.token("admin"))
        for attempt in ("cold", "warm"):
            for name, (url, selector) in pages.items():
                started = time.monotonic()
                browser.get(url)
                _wait(browser, selector, 180)
                painted = _first_paint(browser)
                if selector == "iframe":
                    browser.switch_to.frame(browser.find_element("tag name", "iframe"))
                    _wait(browser, ".card", 180)
                    browser.switch_to.default_content()
                elapsed = time.monotonic() - started
                print(f"{count}, {attempt}: {name}: first paint after {painted:.0f} ms, content after {elapsed:.1f} s")


def main() -> None:
    """Take all pictures, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="take no pictures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for clips in (8, 10_000):
            if options.measure and clips == 8:
                continue
            with gallery_server(Path(temporary) / str(clips), clips=clips, now=time.time()) as server:
                if not options.measure:
                    take(server, str(clips), Path(temporary))
                if clips > 8:
                    measure(server, clips, Path(temporary))


if __name__ == "__main__":
    main()
