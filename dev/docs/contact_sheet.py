# SPDX-License-Identifier: Apache-2.0
"""Takes the documentation's pictures of a contact sheet of 1,000 rows: ``python -m dev.docs.contact_sheet``."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_wan.batch.preparer import make_thumbnail
from airflow_provider_wan.media.contact_sheet import Progress, Tile, render_html
from dev.stack import ROOT
from dev.testkit.batch_runs import crops
from dev.testkit.browser import open_browser, wait_in
from dev.testkit.media_files import video

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

IMAGES = ROOT / "docs" / "images"
ROWS = 1000
_REASONS = (
    (
        "rejected",
        "row {}: image='https://www.dropbox.com/scl/fi/{}/a.jpg': is a web page, and not the file of an image",
    ),
    ("rejected", "row {}: source='s3://photos/{}.gif': must be one image. Set frame to the index of the one to take"),
    ("failed", "InternalError: the model rejected the content of row {} ({})"),
)


def build_sheet(folder: Path, rows: int = ROWS) -> Path:
    """Write a contact sheet with clips beside it, and return its path.

    :param folder: an empty folder.
    :param rows: number of rows.
    """
    draw = random.Random(1)
    thumbnails = [make_thumbnail(data) for data in crops(48, size=(640, 480))]
    (folder / "clip.mp4").write_bytes(video(2, width=640, height=480))
    tiles, steps = [], [(0, 0.0)] * 120
    for row in range(1, rows + 1):
        prompt = f"The camera glides slowly past the scene of row {row}; leaves move in the wind."
        title, picture = f"{row}  photo-{row:04}.jpg", thumbnails[row % len(thumbnails)]
        if draw.random() < 0.12:
            state, reason = draw.choice(_REASONS)
            note = f"{state}: {reason.format(row, row)}"
            tiles.append(Tile(title, note, picture=picture, prompt=prompt, state=state))
            continue
        seconds = 10 if row > rows / 2 and draw.random() < 0.5 else 5
        step, cost = min(119, int(row / rows * 100 + draw.random() * 20)), seconds / 10
        steps[step] = (steps[step][0] + 1, steps[step][1] + cost)
        note = f"{seconds} s · 720P · ${cost:.2f}"
        tiles.append(Tile(title, note, video="clip.mp4", picture=picture, prompt=prompt, state="archived", cost=cost))
    archived = sum(count for count, _ in steps)
    paid = sum(cost for _, cost in steps)
    subtitle = f"s3://photos/2026-03/  ·  {10 * paid:.0f} seconds of video  ·  ${paid:.2f}"
    path = folder / "sheet.html"
    progress = Progress(45.0, steps)
    path.write_bytes(render_html(tiles, title=f"{rows} rows, {archived} clips", subtitle=subtitle, progress=progress))
    return path


def open_sheet(browser: Chrome, path: Path) -> None:
    """Open a contact sheet, and wait until it shows its tiles.

    :param path: where it is.
    """
    browser.get(path.as_uri())
    script = "return [...document.querySelectorAll('article img')].filter(i => i.complete && i.naturalWidth).length"
    wait_in(browser, 30, lambda: browser.execute_script(script) >= 6, "no tiles")


def main() -> None:
    """Take the pictures, in light and dark."""
    with tempfile.TemporaryDirectory() as temporary:
        path = build_sheet(Path(temporary))
        print(f"{path.stat().st_size / 1e6:.1f} MB")
        with open_browser(Path(temporary) / "profile", width=1360, height=1100) as browser:
            for theme in ("light", "dark"):
                features = [{"name": "prefers-color-scheme", "value": theme}]
                browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                open_sheet(browser, path)
                browser.save_screenshot(str(IMAGES / f"contact-sheet-{theme}.png"))


if __name__ == "__main__":
    main()
