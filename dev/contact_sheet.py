# SPDX-License-Identifier: Apache-2.0
"""Shows clips on one page: a picture (PNG) and a page with players (HTML)."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

NOTE = (
    "Made by the sandbox that comes with the provider: the pictures move, but no model was asked and nothing was paid."
)


@dataclass(frozen=True)
class Card:
    """One clip on the sheet. ``video``, ``record`` and ``poster`` are relative to the page."""

    name: str
    video: str
    record: str
    poster: str
    stills: tuple[Any, ...]
    width: int
    height: int
    seconds: float
    size: int
    cost: float
    waited: float
    request_id: str
    sha256: str
    prompt: str

    @property
    def facts(self) -> str:
        return (
            f"{self.width} x {self.height}  ·  {self.seconds:.1f} s  ·  {self.size / 1e6:.1f} MB  ·  ${self.cost:.2f}"
        )


# --- the picture --------------------------------------------------------------------------------
COLUMNS = 4
MARGIN, GAP, PADDING = 56, 28, 18
CARD_WIDTH, PICTURE_HEIGHT, STRIP_HEIGHT, CAPTION_HEIGHT = 440, 310, 76, 94
RADIUS = 14
BACKGROUND, CARD, WELL = (17, 19, 24), (28, 31, 38), (10, 11, 14)
BRIGHT, SOFT, FAINT, ACCENT = (240, 242, 246), (178, 184, 196), (124, 131, 146), (255, 184, 92)


def _font(size: int) -> Any:
    return ImageFont.load_default(size=size)


def _fit(draw: Any, text: str, font: Any, width: int) -> str:
    """``text``, cut with an ellipsis where it would be wider than ``width`` pixels."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _well(picture: Any, size: tuple[int, int]) -> Any:
    """The whole picture, centred on a dark ground: nothing of a portrait is cut away."""
    ground = Image.new("RGB", size, WELL)
    fitted = ImageOps.contain(picture.convert("RGB"), size, Image.Resampling.LANCZOS)
    ground.paste(fitted, ((size[0] - fitted.width) // 2, (size[1] - fitted.height) // 2))
    return ground


def _rounded(picture: Any, radius: int) -> Any:
    scale = 4
    mask = Image.new("L", (picture.width * scale, picture.height * scale), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), radius * scale, fill=255)
    return mask.resize(picture.size, Image.Resampling.LANCZOS)


def _card(card: Card) -> Any:
    inner = CARD_WIDTH - 2 * PADDING
    height = PADDING + PICTURE_HEIGHT + 10 + STRIP_HEIGHT + CAPTION_HEIGHT + PADDING
    face = Image.new("RGB", (CARD_WIDTH, height), CARD)
    draw = ImageDraw.Draw(face)
    top = PADDING
    face.paste(_well(card.stills[0], (inner, PICTURE_HEIGHT)), (PADDING, top))
    top += PICTURE_HEIGHT + 10
    later = card.stills[1:]
    cell = (inner - 10 * (len(later) - 1)) // len(later)
    for index, still in enumerate(later):
        face.paste(_well(still, (cell, STRIP_HEIGHT)), (PADDING + index * (cell + 10), top))
    top += STRIP_HEIGHT + 16
    draw.text((PADDING, top), _fit(draw, card.name, _font(24), inner - 130), font=_font(24), fill=BRIGHT)
    draw.text((CARD_WIDTH - PADDING, top + 5), f"waited {card.waited:.0f} s", font=_font(16), fill=ACCENT, anchor="ra")
    draw.text((PADDING, top + 36), _fit(draw, card.facts, _font(17), inner), font=_font(17), fill=SOFT)
    label = f"request {card.request_id}"
    draw.text((PADDING, top + 63), _fit(draw, label, _font(15), inner), font=_font(15), fill=FAINT)
    return face


def write_picture(cards: Sequence[Card], path: Path, *, title: str, subtitle: str) -> None:
    """Draw the contact sheet: of each clip its first frame large, and later ones below it."""
    faces = [_card(card) for card in cards]
    columns = min(COLUMNS, len(faces))
    rows = -(-len(faces) // columns)
    width = 2 * MARGIN + columns * CARD_WIDTH + (columns - 1) * GAP
    head, foot = 132, 62
    height = MARGIN + head + rows * faces[0].height + (rows - 1) * GAP + foot + MARGIN // 2
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    room = width - 2 * MARGIN
    draw.text((MARGIN, MARGIN - 6), _fit(draw, title, _font(46), room), font=_font(46), fill=BRIGHT)
    draw.text((MARGIN, MARGIN + 62), _fit(draw, subtitle, _font(22), room), font=_font(22), fill=SOFT)
    mask = _rounded(faces[0], RADIUS)
    for index, face in enumerate(faces):
        row, column = divmod(index, columns)
        left = MARGIN + column * (CARD_WIDTH + GAP)
        sheet.paste(face, (left, MARGIN + head + row * (face.height + GAP)), mask)
    draw.text((MARGIN, height - MARGIN - 4), _fit(draw, NOTE, _font(18), room), font=_font(18), fill=FAINT)
    sheet.save(path, optimize=True)


# --- the page -----------------------------------------------------------------------------------
_STYLE = """
:root { color-scheme: light dark; --ground: #f4f5f7; --card: #fff; --text: #16181d; --soft: #5c6370; --line: #dfe2e8; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #111318; --card: #1c1f26; --text: #f0f2f6; --soft: #a3aab8; --line: #2c313b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 3rem; max-width: 100rem; background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 2rem; line-height: 1.2; }
header p { margin: .4rem 0 0; color: var(--soft); }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1.25rem; margin: 2rem 0; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; overflow: hidden; }
video { display: block; width: 100%; aspect-ratio: 4 / 3; background: #0a0b0e; object-fit: contain; }
.caption { padding: .9rem 1.1rem 1.1rem; }
h2 { margin: 0; font-size: 1.15rem; }
.caption p { margin: .25rem 0 0; color: var(--soft); font-size: .9rem; }
.caption .prompt { color: var(--text); }
code { font-size: .8rem; overflow-wrap: anywhere; }
a { color: inherit; }
footer { color: var(--soft); font-size: .9rem; }
"""


def _article(card: Card) -> str:
    safe = html.escape
    files = f'<a href="{safe(card.video)}">MP4</a> · <a href="{safe(card.record)}">record</a>'
    return f"""<article>
<video controls loop playsinline preload="none" poster="{safe(card.poster)}" src="{safe(card.video)}"></video>
<div class="caption">
<h2>{safe(card.name)}</h2>
<p class="prompt">{safe(card.prompt)}</p>
<p>{safe(card.facts)}</p>
<p>waited {card.waited:.0f} s for request <code>{safe(card.request_id)}</code></p>
<p>SHA-256 <code>{card.sha256[:16]}…</code> · {files}</p>
</div>
</article>"""


def write_page(cards: Sequence[Card], path: Path, *, title: str, subtitle: str) -> None:
    """Write a page with a player for each clip. It loads nothing from elsewhere."""
    safe = html.escape
    articles = "\n".join(_article(card) for card in cards)
    path.write_text(
        f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{safe(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{safe(title)}</h1>
<p>{safe(subtitle)}</p>
</header>
<main>
{articles}
</main>
<footer>{safe(NOTE)}</footer>
</body>
</html>
""",
        encoding="utf-8",
    )
