# SPDX-License-Identifier: Apache-2.0
"""Contact sheets of many clips: a page (HTML with players) and an image (PNG). Neither loads external resources."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

COLUMNS, TILE, GAP, MARGIN, CAPTION, HEAD = 8, (220, 165), 12, 40, 40, 92
_GROUND, _CARD, _BRIGHT, _SOFT, _BAD = (17, 19, 24), (28, 31, 38), (240, 242, 246), (160, 166, 178), (255, 138, 120)
_STYLE = """
:root { color-scheme: light dark; --ground: #f4f5f7; --card: #fff; --text: #16181d; --soft: #5c6370; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #111318; --card: #1c1f26; --text: #f0f2f6; --soft: #a3aab8; --bad: #ff8a78; } }
body { margin: 2rem; background: var(--ground); color: var(--text); font: 1rem/1.4 system-ui, sans-serif; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1rem; }
article { background: var(--card); border-radius: .6rem; overflow: hidden; }
video, .none { display: block; width: 100%; aspect-ratio: 4 / 3; background: #0a0b0e; object-fit: contain; }
p { margin: .5rem .7rem; overflow-wrap: anywhere; font-size: .85rem; color: var(--soft); }
p.bad { color: var(--bad); } header p { margin: .3rem 0 1.2rem; font-size: 1rem; } b { color: var(--text); }
"""


@dataclass(frozen=True)
class Tile:
    """One clip, or the reason why there is none.

    :param title: a few words.
    :param note: the line below the title.
    :param video: address of the clip, relative to the page; None if there is none.
    :param poster: address of its still, relative to the page.
    :param picture: content of the still, JPEG or PNG.
    """

    title: str
    note: str
    video: str | None = None
    poster: str | None = None
    picture: bytes | None = field(default=None, repr=False)


def render_html(tiles: Sequence[Tile], *, title: str, subtitle: str) -> bytes:
    """Return the page, HTML in UTF-8.

    :param tiles: the clips.
    :param title: heading of the page.
    :param subtitle: the line below it.
    """
    safe = html.escape
    articles = []
    for tile in tiles:
        poster = f' poster="{safe(tile.poster)}"' if tile.poster else ""
        if tile.video:
            player = f'<video controls loop playsinline preload="none"{poster} src="{safe(tile.video)}"></video>'
        else:
            player = '<div class="none"></div>'
        css_class = "" if tile.video else ' class="bad"'
        articles.append(
            f"<article>{player}<p><b>{safe(tile.title)}</b></p><p{css_class}>{safe(tile.note)}</p></article>"
        )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{safe(title)}</title><style>{_STYLE}</style></head>
<body><header><h1>{safe(title)}</h1><p>{safe(subtitle)}</p></header>
<main>
{chr(10).join(articles)}
</main></body></html>
""".encode()


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
    """Return the text, shortened with an ellipsis if it is wider than ``width`` pixels."""
    font = _font(size)
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text.rstrip() + "…"
