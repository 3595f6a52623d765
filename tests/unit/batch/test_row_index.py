# SPDX-License-Identifier: Apache-2.0
"""Sets of rows and digests compared with those of Python."""

from __future__ import annotations

import hashlib
import random
import sys

from airflow_provider_wan.batch.row_index import DigestIndex, RowSet, hash_text


def test_a_digest_has_its_first_row_whatever_comes_after_it() -> None:
    index, expected = DigestIndex(), dict[str, int]()
    draw = random.Random(1)
    for row in range(1, 20_000):
        digest = hashlib.sha256(str(draw.randrange(12_000)).encode()).hexdigest()
        assert (digest in index) == (digest in expected)
        assert index.setdefault(digest, row) == expected.setdefault(digest, row)
    assert len(index) == len(expected)


def test_digests_that_begin_alike_are_distinguished() -> None:
    index = DigestIndex()
    digests = [f"{number:08x}{0:08x}" for number in range(1, 2000)]  # all in one slot of the table
    assert [index.setdefault(each, row) for row, each in enumerate(digests, 1)] == list(range(1, 2000))
    assert index.setdefault("0" * 16, 7) == 7


def test_a_million_digests_take_a_few_bytes_each() -> None:
    index = DigestIndex()
    index._allocate(2**21)  # what a million rows need
    assert sum(map(sys.getsizeof, (index._digests, index._rows))) < 28_000_000


def test_any_name_has_a_hash() -> None:
    assert len({hash_text(name) for name in ("a", "b", "é", "\ud800")}) == 4


def test_a_set_of_rows_is_one() -> None:
    draw = random.Random(2)
    rows, expected = RowSet(), set[int]()
    assert rows.last == 0
    for _ in range(2000):
        row = draw.randrange(1, 30_000)
        rows.add(row)
        expected.add(row)
    assert all((row in rows) == (row in expected) for row in range(40_000))
    for after in (0, 7, 8, 12_345, 50_000):
        assert list(rows.rows_after(after)) == sorted(row for row in expected if row > after)
    assert rows.last == max(expected)
