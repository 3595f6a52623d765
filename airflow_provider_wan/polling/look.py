# SPDX-License-Identifier: Apache-2.0
"""One request for the state of one clip, or of many."""

from __future__ import annotations

from dataclasses import dataclass

# Requests on one page of the list, as clients ask for them.
PAGE = 100


@dataclass(frozen=True, slots=True)
class Look:
    """
    One request to make.

    :param request_id: ask for this one by its id; None: ask for a page.
    :param offset: where the page begins.
    :param limit: how many requests it is to hold.
    :param members: ids of the clips that it is for.
    :param scans: whether the page searches for clips whose place is not known.
    """

    request_id: str | None
    offset: int = 0
    limit: int = PAGE
    members: tuple[str, ...] = ()
    scans: bool = False
