# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import Any

from PIL import Image

from airflow_provider_wan.media.contact_sheet import Progress, Tile, render_html, render_png

CLIP = Tile("1 a.jpg", "5 s", video="a.mp4", picture=b"jpeg", prompt="a cat", state="archived", cost=0.5)
BAD = Tile("2 b.jpg", "row 2: source='s3://b/2.png': at most 10 bytes", state="rejected")


def render(*tiles: Tile, progress: Progress | None = None) -> str:
    return render_html(tiles, title="title", subtitle="subtitle", progress=progress).decode()


def rows(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="rows">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_the_stills_are_in_the_page_and_it_needs_no_other_file() -> None:
    page = render(CLIP, replace(CLIP, video=None))

    assert [row["picture"] for row in rows(page)] == ["data:image/jpeg;base64,anBlZw=="] * 2
    assert not re.search(r"(src|href)=\"https?:", page)


def test_a_row_has_its_clip_its_image_and_its_prompt() -> None:
    tiles = (CLIP, replace(BAD, image="https://e.example/b.jpg"), replace(BAD, image="s3://b/2.png"))

    clip, on_the_web, on_s3 = rows(render(*tiles))

    assert (clip["video"], clip["prompt"], clip["state"]) == ("a.mp4", "a cat", "archived")
    assert on_the_web["image"] == "https://e.example/b.jpg"
    assert "image" not in on_s3


def test_states_have_their_counts_and_costs() -> None:
    page = render(CLIP, CLIP, BAD)

    assert "all <b>3</b>" in page
    assert "archived <b>2</b> · $1.00" in page
    assert "rejected <b>1</b></button>" in page
    assert [row["state"] for row in rows(page)] == ["archived", "archived", "rejected"]


def test_equal_reasons_are_counted_together() -> None:
    other = replace(BAD, note="row 31: source='s3://b/31.png': at most 10 bytes")

    assert "<b>2</b> source=…: at most # bytes" in render(CLIP, BAD, other)


def test_clips_and_money_are_plotted_over_time() -> None:
    page = render(CLIP, progress=Progress(60.0, [(1, 0.5), (0, 0.0), (2, 1.0)]))

    assert page.count("<polyline") == 2
    assert "3 clips archived" in page
    assert "$1.50 paid" in page
    assert ">3 min</text>" in page
    assert "<polyline" not in render(CLIP, progress=Progress(60.0, [(0, 0.0)]))


def test_clips_that_cost_nothing_are_plotted_without_money() -> None:
    assert render(CLIP, progress=Progress(1.0, [(1, 0.0)])).count("<polyline") == 1


def test_nothing_that_a_row_says_is_markup() -> None:
    script = '</script><script>alert(1)</script>"'

    page = render(Tile(script, script, video=script, state=script, prompt=script, image=f"https://{script}"))

    assert page.count("<script>") == 1
    assert page.count("</script>") == 2
    assert rows(page)[0]["title"] == script


def test_a_line_break_in_a_title_or_a_note_does_not_break_the_image() -> None:
    image = render_png(
        [replace(BAD, title="1 a\nb.jpg", note="Parameter validation failed:\r\nInvalid")],
        title="a\nb",
        subtitle="c\vd",
    )

    assert Image.open(io.BytesIO(image)).format == "PNG"


def test_only_the_start_of_a_long_text_is_measured(monkeypatch: Any) -> None:
    from PIL import ImageDraw

    measured: list[int] = []
    textlength = ImageDraw.ImageDraw.textlength

    def measure(self: Any, text: str, **more: Any) -> float:
        measured.append(len(text))
        return float(textlength(self, text, **more))

    monkeypatch.setattr(ImageDraw.ImageDraw, "textlength", measure)

    render_png([replace(BAD, title="1 " + "QUJD" * 5000)], title="t", subtitle="s")

    assert max(measured) <= 201
    assert len(measured) < 300
