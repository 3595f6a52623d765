# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium for tests of what people see."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> tuple[str, str] | None:
    """Return the paths of a Chromium and of its driver; None if one is missing."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def open_browser(profile: Path, *, width: int = 1360, height: int = 900) -> Iterator[Chrome]:
    """
    Open a browser with an empty profile, and close it.

    :param profile: folder of the profile.
    :param width: of the window, in pixels; ``height`` likewise.
    :raises RuntimeError: if there is no Chromium with its driver.
    """
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    found = find_browser()
    if found is None:
        raise RuntimeError("Chromium and chromedriver are needed: Debian's packages chromium and chromium-driver.")
    options = ChromeOptions()
    options.binary_location = found[0]
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
        "--autoplay-policy=no-user-gesture-required",
        f"--user-data-dir={profile}",
        f"--window-size={width},{height}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options=options, service=Service(found[1]))
    try:
        yield browser
    finally:
        browser.quit()


def log_in(browser: Chrome, url: str, token: str) -> None:
    """
    Log a browser in.

    :param url: address of Airflow.
    :param token: of the user.
    """
    browser.get(f"{url}/api/v2/version")
    browser.add_cookie({"name": "_token", "value": token, "path": "/"})


def wait_in(browser: Chrome, seconds: float, condition: Callable[[], object], what: str) -> None:
    """
    Wait until a condition holds.

    :param what: what is missed if it does not.
    :raises AssertionError: if it does not hold in time, with the browser's console.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: {browser.get_log('browser')}"
        time.sleep(0.1)


def open_tab(browser: Chrome, url: str) -> None:
    """
    Open a page of Airflow's UI that holds a page of the gallery, and enter the latter.

    :param url: address of the page.
    """
    from selenium.webdriver.common.by import By

    browser.get(url)
    wait_in(browser, 60, lambda: browser.find_elements(By.TAG_NAME, "iframe"), "no tab")
    browser.switch_to.frame(browser.find_element(By.TAG_NAME, "iframe"))
    wait_in(browser, 30, lambda: browser.find_elements(By.CSS_SELECTOR, ".card"), "no clips")


def play(browser: Chrome, clip_id: str) -> None:
    """
    Open a clip of the gallery, and wait until it plays.

    :param clip_id: of a clip that the page shows.
    """
    from selenium.webdriver.common.by import By

    browser.find_element(By.CSS_SELECTOR, f'[data-clip="{clip_id}"] .media').click()
    video = browser.find_element(By.CSS_SELECTOR, "dialog video")
    script = "return arguments[0].currentTime"
    wait_in(browser, 30, lambda: float(browser.execute_script(script, video)) > 0.2, "the clip does not play")
