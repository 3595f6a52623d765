# SPDX-License-Identifier: Apache-2.0
"""Contact sheets of many clips: a page (HTML with players) and an image (PNG)."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

COLUMNS, TILE, GAP, MARGIN, CAPTION, HEAD = 8, (220, 165), 12, 40, 40, 92
_GROUND, _CARD, _BRIGHT, _SOFT, _BAD = (17, 19, 24), (28, 31, 38), (240, 242, 246), (160, 166, 178), (255, 138, 120)
_MAX_REASONS = 12
_MAX_LABEL = 200  # characters that are measured
_STATIC = Path(__file__).parent / "static"
_PLOT_WIDTH, _PLOT_HEIGHT, _PLOT_MARGIN = 960, 220, 84


@dataclass(frozen=True)
class Tile:
    """One clip, or the reason why there is none.

    :param title: a few words.
    :param note: the line below the title.
    :param video: address of the clip, relative to the page; None if there is none.
    :param poster: address of its still, relative to the page.
    :param picture: content of the still, JPEG or PNG.
    :param image: http(s) URL of the source image, for a row without a still.
    :param prompt: the prompt.
    :param state: state of the row, by which tiles are filtered.
    :param cost: US dollars that were paid for it.
    """

    title: str
    note: str
    video: str | None = None
    poster: str | None = None
    picture: bytes | None = field(default=None, repr=False)
    image: str | None = None
    prompt: str = field(default="", repr=False)
    state: str = ""
    cost: float = 0.0


@dataclass(frozen=True)
class Progress:
    """Clips and money over time.

    :param seconds: length of each step.
    :param steps: clips that were archived, and US dollars that were paid for them, in each step.
    """

    seconds: float
    steps: Sequence[tuple[int, float]]


def render_html(tiles: Sequence[Tile], *, title: str, subtitle: str, progress: Progress | None = None) -> bytes:
    """Return the page, as HTML in UTF-8.

    Stills, style and script are in it, so that it can be opened wherever it is stored. Clips are linked relative to it.
    48 tiles are shown at a time.

    :param tiles: the tiles.
    :param title: title of the page.
    :param subtitle: text below the title.
    :param progress: clips and money over time, for a plot.
    """
    safe = html.escape
    states = sorted({tile.state for tile in tiles if tile.state})
    filters = [f'<button data-state="" aria-pressed="true">all <b>{len(tiles)}</b></button>']
    for state in states:
        members = [tile for tile in tiles if tile.state == state]
        cost = sum(tile.cost for tile in members)
        amount = f" · ${cost:,.2f}" if cost else ""
        filters.append(f'<button data-state="{safe(state)}">{safe(state)} <b>{len(members)}</b>{amount}</button>')
    reasons = Counter(_generalize(tile.note) for tile in tiles if not tile.video and tile.note)
    listed = "".join(f"<li><b>{count}</b> {safe(reason)}</li>" for reason, count in reasons.most_common(_MAX_REASONS))
    grouped = f"<details open><summary>Rows without a clip</summary><ul>{listed}</ul></details>" if listed else ""
    # No "<" in a script element, so that nothing in it can end it.
    rows = json.dumps([_build_row(tile) for tile in tiles]).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{safe(title)}</title><style>{(_STATIC / "sheet.css").read_text("utf-8")}</style></head>
<body><header><h1>{safe(title)}</h1><p>{safe(subtitle)}</p>{_render_plot(progress)}{grouped}
<nav>{"".join(filters)}</nav>
<nav><button id="back">Back</button><span id="page"></span><button id="next">Next</button></nav></header>
<main><noscript>This page needs JavaScript.</noscript></main>
<script type="application/json" id="rows">{rows}</script>
<script>{(_STATIC / "sheet.js").read_text("utf-8")}</script></body></html>
""".encode()


def _build_row(tile: Tile) -> dict[str, str]:
    picture = None if tile.picture is None else f"data:image/jpeg;base64,{base64.b64encode(tile.picture).decode()}"
    values = {
        "title": tile.title,
        "note": tile.note,
        "state": tile.state,
        "video": tile.video,
        "picture": picture,
        "poster": tile.poster,
        "image": tile.image if tile.image and tile.image.startswith(("http://", "https://")) else None,
        "prompt": tile.prompt,
    }
    return {name: value for name, value in values.items() if value}


def _render_plot(progress: Progress | None) -> str:
    """Return a plot of the sums over time, as a figure with SVG; nothing if there is no clip."""
    if progress is None or not any(count for count, _ in progress.steps):
        return ""
    clips = list(accumulate((count for count, _ in progress.steps), initial=0))
    money = list(accumulate((cost for _, cost in progress.steps), initial=0.0))
    total_clips, total_money = clips[-1], money[-1]
    width, height, margin = _PLOT_WIDTH, _PLOT_HEIGHT, _PLOT_MARGIN
    duration = _format_seconds(progress.seconds * len(progress.steps))
    axis = height - 30
    lines = "".join(
        f'<polyline class="{name}" points="{_build_points(sums)}"/>'
        for name, sums in (("clips", clips), ("money", money))
        if sums[-1]
    )
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="Clips and US dollars over time">'
        f'<path class="grid" d="M{margin} 12V{axis}H{width - margin}V12"/>{lines}'
        f'<text x="{margin - 8}" y="20" text-anchor="end">{total_clips:,}</text>'
        f'<text x="{width - margin + 8}" y="20">${total_money:,.2f}</text>'
        f'<text x="{margin}" y="{height - 10}">0</text>'
        f'<text x="{width - margin}" y="{height - 10}" text-anchor="end">{duration}</text></svg>'
        f'<figcaption><i class="clips"></i>{total_clips:,} clips archived &nbsp; '
        f'<i class="money"></i>${total_money:,.2f} paid, when their clips were archived</figcaption></figure>'
    )


def _build_points(sums: Sequence[float]) -> str:
    width, height = _PLOT_WIDTH - 2 * _PLOT_MARGIN, _PLOT_HEIGHT - 42
    last = len(sums) - 1
    return " ".join(
        f"{_PLOT_MARGIN + width * index / last:.1f},{12 + height * (1 - each / sums[-1]):.1f}"
        for index, each in enumerate(sums)
    )


def _format_seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _generalize(reason: str) -> str:
    """Return a reason without what differs from row to row, so that equal reasons are counted together."""
    text = re.sub(r"row \d+:? ?", "", reason)
    text = re.sub(r"='[^']*'|=\"[^\"]*\"", "=…", text)
    return re.sub(r"\b\d+(?:×\d+)?\b", "#", text)[:200]


def render_png(tiles: Sequence[Tile], *, title: str, subtitle: str) -> bytes:
    """Return the image, PNG.

    :param tiles: the clips.
    :param title: heading of the image.
    :param subtitle: the line below it.
    """
    from PIL import Image, ImageDraw

    columns = max(1, min(COLUMNS, len(tiles)))
    rows = -(-len(tiles) // columns)
    step_x, step_y = TILE[0] + GAP, TILE[1] + CAPTION + GAP
    width = max(640, 2 * MARGIN + columns * step_x - GAP)
    sheet = Image.new("RGB", (width, 2 * MARGIN + HEAD + rows * step_y), _GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 8), _shorten(draw, title, 32, width - 2 * MARGIN), font=_font(32), fill=_BRIGHT)
    draw.text((MARGIN, MARGIN + 42), _shorten(draw, subtitle, 18, width - 2 * MARGIN), font=_font(18), fill=_SOFT)
    for index, tile in enumerate(tiles):
        left = MARGIN + index % columns * step_x
        top = MARGIN + HEAD + index // columns * step_y
        draw.rectangle((left, top, left + TILE[0], top + TILE[1] + CAPTION), fill=_CARD)
        if tile.picture is not None:
            _paste(sheet, tile.picture, left, top)
        draw.text(
            (left + 6, top + TILE[1] + 3), _shorten(draw, tile.title, 14, TILE[0] - 12), font=_font(14), fill=_BRIGHT
        )
        note = _shorten(draw, tile.note, 12, TILE[0] - 12)
        draw.text((left + 6, top + TILE[1] + 21), note, font=_font(12), fill=_SOFT if tile.video else _BAD)
    written = io.BytesIO()
    sheet.save(written, "PNG", optimize=True)
    return written.getvalue()


def _paste(sheet: Any, data: bytes, left: int, top: int) -> None:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data)) as opened:
        fitted = ImageOps.contain(opened.convert("RGB"), TILE)
    sheet.paste(fitted, (left + (TILE[0] - fitted.width) // 2, top + (TILE[1] - fitted.height) // 2))


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def _shorten(draw: Any, text: str, size: int, width: int) -> str:
    """Return the text in one line, shortened with an ellipsis if it is wider than ``width`` pixels."""
    font = _font(size)
    text = " ".join(text[: 2 * _MAX_LABEL].split())[:_MAX_LABEL]
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text.rstrip() + "…"
