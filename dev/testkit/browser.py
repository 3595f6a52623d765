# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium for tests of what people see."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
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
