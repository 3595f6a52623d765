# SPDX-License-Identifier: Apache-2.0
"""
Takes the documentation's pictures of the gallery, with a real Airflow and a real Chromium: ``make pictures``.

It prints how long the page of each took to its first paint.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dev.stack import ROOT
from dev.testkit.browser import open_browser
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
            browser.get(f"{server.home.url}/api/v2/version")
            browser.add_cookie({"name": "_token", "value": server.token("admin"), "path": "/"})
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


def main() -> None:
    """Take all pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        for clips in (8, 10_000):
            with gallery_server(Path(temporary) / str(clips), clips=clips, now=time.time()) as server:
                take(server, str(clips), Path(temporary))


if __name__ == "__main__":
    main()
