# SPDX-License-Identifier: Apache-2.0
"""Contact sheets of many clips: a page (HTML with players) and an image (PNG). Neither loads external resources."""

from __future__ import annotations

import base64
import html
import io
import re
from collections import Counter
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
article { content-visibility: auto; contain-intrinsic-size: auto 16rem; }
article[hidden] { display: none; }
nav { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1rem 0; }
button { font: inherit; padding: .3rem .8rem; border: 1px solid var(--soft); border-radius: 2rem; cursor: pointer;
  background: var(--card); color: var(--text); }
button.on { background: var(--text); color: var(--ground); } button.on b { color: inherit; }
details { margin: 0 0 1.2rem; color: var(--soft); } li b { display: inline-block; min-width: 3rem; }
img { display: block; width: 100%; aspect-ratio: 4 / 3; object-fit: contain; background: #0a0b0e; opacity: .55; }
video, .none { display: block; width: 100%; aspect-ratio: 4 / 3; background: #0a0b0e; object-fit: contain; }
p { margin: .5rem .7rem; overflow-wrap: anywhere; font-size: .85rem; color: var(--soft); }
p.bad { color: var(--bad); } header p { margin: .3rem 0 1.2rem; font-size: 1rem; } b { color: var(--text); }
"""

_MAX_REASONS = 12
_SCRIPT = """
const buttons = [...document.querySelectorAll('nav button')], tiles = [...document.querySelectorAll('article')];
for (const button of buttons) button.onclick = () => {
  for (const each of buttons) each.classList.toggle('on', each === button);
  for (const tile of tiles) tile.hidden = button.dataset.state !== '' && tile.dataset.state !== button.dataset.state;
};
"""


@dataclass(frozen=True)
class Tile:
    """One clip, or the reason why there is none.

    :param title: a few words.
    :param note: the line below the title.
    :param video: address of the clip, relative to the page; None if there is none.
    :param poster: address of its still, relative to the page.
    :param picture: content of the still, JPEG or PNG.
    :param state: state of the row, by which tiles are filtered.
    :param cost: US dollars that were paid for it.
    """

    title: str
    note: str
    video: str | None = None
    poster: str | None = None
    picture: bytes | None = field(default=None, repr=False)
    state: str = ""
    cost: float = 0.0


def render_html(tiles: Sequence[Tile], *, title: str, subtitle: str) -> bytes:
    """Return the page, as HTML in UTF-8. The pictures are in it, so that it can be opened wherever it is stored.

    :param tiles: the tiles.
    :param title: title of the page.
    :param subtitle: text below the title.
    """
    safe = html.escape
    states = sorted({tile.state for tile in tiles if tile.state})
    filters = [f'<button data-state="" class="on">all <b>{len(tiles)}</b></button>']
    for state in states:
        members = [tile for tile in tiles if tile.state == state]
        cost = sum(tile.cost for tile in members)
        amount = f" · ${cost:,.2f}" if cost else ""
        filters.append(f'<button data-state="{safe(state)}">{safe(state)} <b>{len(members)}</b>{amount}</button>')
    reasons = Counter(_generalize(tile.note) for tile in tiles if not tile.video and tile.note)
    listed = "".join(f"<li><b>{count}</b> {safe(reason)}</li>" for reason, count in reasons.most_common(_MAX_REASONS))
    grouped = f"<details open><summary>Rows without a clip</summary><ul>{listed}</ul></details>" if listed else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{safe(title)}</title><style>{_STYLE}</style></head>
<body><header><h1>{safe(title)}</h1><p>{safe(subtitle)}</p><nav>{"".join(filters)}</nav>{grouped}</header>
<main>
{chr(10).join(_render_tile(tile) for tile in tiles)}
</main><script>{_SCRIPT}</script></body></html>
""".encode()


def _render_tile(tile: Tile) -> str:
    safe = html.escape
    poster = ""
    if tile.picture is not None:
        poster = f"data:image/jpeg;base64,{base64.b64encode(tile.picture).decode('ascii')}"
    elif tile.poster:
        poster = safe(tile.poster)
    if tile.video:
        visible = f' poster="{poster}"' if poster else ""
        player = f'<video controls loop playsinline preload="none"{visible} src="{safe(tile.video)}"></video>'
    elif poster:
        player = f'<img loading="lazy" alt="" src="{poster}">'
    else:
        player = '<div class="none"></div>'
    css_class = "" if tile.video else ' class="bad"'
    return (
        f'<article data-state="{safe(tile.state)}">{player}<p><b>{safe(tile.title)}</b></p>'
        f"<p{css_class}>{safe(tile.note)}</p></article>"
    )


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
    """Return the text, shortened with an ellipsis if it is wider than ``width`` pixels."""
    font = _font(size)
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text.rstrip() + "…"
