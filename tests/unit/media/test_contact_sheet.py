# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from dataclasses import replace

from airflow_provider_wan.media.contact_sheet import Tile, render_html

CLIP = Tile("1 a.jpg", "5 s", video="a.mp4", picture=b"jpeg", state="archived", cost=0.5)
BAD = Tile("2 b.jpg", "row 2: source='s3://b/2.png': at most 10 bytes", state="rejected")


def render(*tiles: Tile) -> str:
    return render_html(tiles, title="title", subtitle="subtitle").decode()


def test_the_pictures_are_in_the_page_and_it_needs_no_other_file() -> None:
    page = render(CLIP, replace(CLIP, video=None))

    assert page.count("data:image/jpeg;base64,anBlZw==") == 2
    assert not re.search(r"(src|href)=\"https?:", page)


def test_states_have_their_counts_and_costs() -> None:
    page = render(CLIP, CLIP, BAD)

    assert "all <b>3</b>" in page
    assert "archived <b>2</b> · $1.00" in page
    assert "rejected <b>1</b></button>" in page
    assert page.count('<article data-state="archived">') == 2


def test_equal_reasons_are_counted_together() -> None:
    other = replace(BAD, note="row 31: source='s3://b/31.png': at most 10 bytes")

    assert "<b>2</b> source=…: at most # bytes" in render(CLIP, BAD, other)


def test_nothing_that_a_row_says_is_markup() -> None:
    script = '<script>alert(1)</script>"'

    page = render(Tile(script, script, video=script, state=script, poster=script))

    assert page.count("<script>") == 1
    assert 'alert(1)</script>"' not in page
