# SPDX-License-Identifier: Apache-2.0
"""Play all histories of a kind, and count what they covered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from airflow_provider_wan.ledger import Submitter
from dev.explore.histories import History, play
from dev.explore.seams import Make
from dev.explore.stage import Switch
from dev.explore.world import Kind, Strike

FURTHEST = 400


@dataclass
class Coverage:
    """Count the schedules that were played, and the boundaries at which a fault occurred."""

    schedules: int = 0
    by_boundary: Counter[str] = field(default_factory=Counter)
    by_group: Counter[str] = field(default_factory=Counter)
    crossed: Counter[str] = field(default_factory=Counter)

    def format(self) -> str:
        """Return the counts as text."""
        lines = [f"{self.schedules} schedules"]
        lines += [f"  {count:7d}  {name}" for name, count in sorted(self.by_group.items())]
        lines += ["faults and switches by boundary:"]
        lines += [f"  {self.by_boundary[name]:7d}  {name}" for name in sorted(self.crossed)]
        return "\n".join(lines)


class Explorer:
    """
    Play rows of histories. Within a row, the last fault moves to a later boundary until it is past the end.

    :param make: builds the submitter; the tests of the exploration pass a broken one.
    """

    def __init__(self, make: Make = Submitter) -> None:
        self.coverage = Coverage()
        self._make = make

    def row(self, group: str, row: Iterable[History]) -> int:
        """Play one row, and return its number of boundaries."""
        length = 0
        for history in row:
            played = play(history, self._make)
            self.coverage.crossed.update(played.crossed())
            if played.beyond:
                break
            length += 1
            if played.came:
                self.coverage.schedules += 1
                self.coverage.by_group[group] += 1
                self.coverage.by_boundary.update(played.boundaries())
        return length

    def one_fault(self, base: History, kinds: Iterable[Kind]) -> None:
        """One fault at every boundary of the first try."""
        for kind in kinds:

            def struck(n: int, kind: Kind = kind) -> History:
                return replace(base, first=(Strike(n, kind),))

            self.row(f"one fault · {base.sequel}", _later(struck))

    def fault_in_kill(self, base: History, kinds: Iterable[Kind]) -> None:
        """One fault at every boundary of the triggerer's cancellation after a clear."""
        for kind in kinds:

            def struck(n: int, kind: Kind = kind) -> History:
                return replace(base, killer=(Strike(n, kind),))

            self.row(f"one fault · {base.sequel}", _later(struck))

    def two_faults(self, base: History, first: Kind, second: Kind) -> None:
        """A fault at every boundary of the first try, and one at every boundary of what follows."""
        for n in range(1, FURTHEST):
            struck = replace(base, first=(Strike(n, first),))
            if play(struck, self._make).beyond:
                break

            def struck_twice(m: int, struck: History = struck) -> History:
                return replace(struck, second=(Strike(m, second),))

            self.row(f"two faults · {base.sequel}", _later(struck_twice))

    def two_in_one_try(self, base: History, first: Kind, second: Kind) -> None:
        """A fault that the try survives at every boundary, and one at every later boundary of the same try."""
        for n in range(1, FURTHEST):
            at = Strike(n, first)
            row = (replace(base, first=(at, Strike(m, second))) for m in range(n + 1, FURTHEST))
            self.row(f"two faults in one try · {base.sequel}", row)
            if play(replace(base, first=(at,)), self._make).beyond:
                break

    def two_at_once(self, base: History) -> None:
        """Two processes: a change to the second at every boundary of the first, and back at every one of the second."""
        for n in range(1, FURTHEST):
            to = replace(base, switches=(Switch(n),))

            def and_back(m: int, to: History = to) -> History:
                return replace(to, back=(Switch(m),))

            if not self.row(f"two at once · {base.sequel}", _later(and_back)):
                break

    def back_only(self, base: History) -> None:
        """Two processes, the second of which begins: a change at each of its boundaries."""
        self.row(f"two at once · {base.sequel}", _later(lambda m: replace(base, back=(Switch(m),))))

    def fault_at_once(self, base: History, kind: Kind) -> None:
        """Two processes: a change at every boundary of the first, and a fault at that or a later one of it."""
        for n in range(1, FURTHEST):
            to = replace(base, switches=(Switch(n),))
            row = (replace(to, first=(Strike(m, kind),)) for m in range(n, FURTHEST))
            if not self.row(f"two at once and a fault · {base.sequel}", row):
                break


def _later(build: Callable[[int], History]) -> Iterable[History]:
    return (build(step) for step in range(1, FURTHEST))
