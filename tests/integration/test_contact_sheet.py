# SPDX-License-Identifier: Apache-2.0
"""The contact sheet of a thousand rows in a real Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dev.docs.contact_sheet import build_sheet, open_sheet
from dev.testkit.browser import find_browser, open_browser, wait_in

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

pytestmark = pytest.mark.skipif(find_browser() is None, reason="needs Chromium and its driver")


def find(browser: Chrome, selector: str) -> list[WebElement]:
    from selenium.webdriver.common.by import By

    return browser.find_elements(By.CSS_SELECTOR, selector)


def test_a_thousand_rows_are_paged_filtered_and_played(tmp_path: Path) -> None:
    with open_browser(tmp_path / "profile") as browser:
        open_sheet(browser, build_sheet(tmp_path))

        assert len(find(browser, "article")) == 48
        assert len(find(browser, "figure polyline")) == 2
        find(browser, "#next")[0].click()
        assert find(browser, "#page")[0].text == "page 2 of 21"
        find(browser, 'button[data-state="rejected"]')[0].click()
        assert {tile.get_attribute("data-state") for tile in find(browser, "article")} == {"rejected"}
        find(browser, 'button[data-state="archived"]')[0].click()
        find(browser, "article summary")[0].click()
        assert find(browser, "article details p")[0].text.startswith("The camera glides")
        script = "const v = document.querySelector('video'); v.muted = true; v.play(); return v.currentTime"
        wait_in(browser, 30, lambda: float(browser.execute_script(script)) > 0.1, "the clip does not play")

        (tmp_path / "clip.mp4").unlink()  # as behind a presigned link
        open_sheet(browser, tmp_path / "sheet.html")
        browser.execute_script("document.querySelector('video').load()")
        browser.execute_script("document.querySelector('video').play().catch(() => {})")
        wait_in(browser, 30, lambda: "can\u2019t be loaded from here" in find(browser, "main")[0].text, "no note")
        errors = [each for each in browser.get_log("browser") if "clip.mp4" not in each["message"]]
        assert errors == []
