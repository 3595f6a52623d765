# SPDX-License-Identifier: Apache-2.0
"""The result of a run, as a page and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.chaos.account import Account
from dev.chaos.plan import Effect
from dev.chaos.play import Course

HEAD = """\
# Chaos tests

`make chaos` makes clips through a mapped Dag and a batch Dag on the [cluster](how-to/cluster.md) while faults occur:
services are killed with SIGKILL and come back, both workers and a triggerer are cut off from S3 and from the rest of
Airflow for up to a minute while they go on running, S3 is unavailable for 30 s, full for 30 s and slow for 40 s, the
API answers 429 and 503 for a minute, resets connections and loses responses. The API's clock is two minutes ahead of
Airflow's, the clock of one worker 45 s ahead, and that of the other one 45 s behind. A seed determines the time of each
fault. Clips and charges are counted at the sandbox and in the bucket, not in Airflow, and the history checker compares
both with the ledger.

```bash
make chaos ARGS="--seed {seeds} --write docs"
```

generates this page, with 200 clips for each seed. Without `--write` the page is written to `.run/chaos`.

The command succeeds only if every clip is in the bucket, no clip was paid for twice, and no clip was paid for and lost.

The API accepts more requests than there are clips, because it cannot fetch images while S3 is unavailable. Such a
request fails, is not charged, and is submitted again.
"""
COLOURS = {
    Effect.KILLED: "tab:red",
    Effect.CUT_OFF: "tab:purple",
    Effect.SLOW: "tab:brown",
    Effect.FULL: "tab:brown",
    Effect.FAULTY: "tab:orange",
}
COLUMNS = (
    "seed", "clips", "accepted by the API", "charges", "in the bucket", "paid twice", "paid and lost",
    "task retries", "services killed", "automatic restarts", "time",
)  # fmt: skip


@dataclass(frozen=True)
class SeedResult:
    """One run of chaos.

    :param manual_repairs: what would need manual repair, as text.
    """

    seed: int
    account: Account
    course: Course
    retries: int
    restarts: int
    manual_repairs: tuple[str, ...]

    def row(self) -> str:
        """Return the row of the table."""
        killed = sum(trouble.effect is Effect.KILLED for trouble, _, _ in self.course.played)
        figures = (
            self.seed, self.account.wanted, self.account.accepted, self.account.charged, self.account.archived,
            len(self.account.twice), len(self.account.lost), self.retries, killed, self.restarts,
            f"{self.course.seconds:.0f} s",
        )  # fmt: skip
        return "| " + " | ".join(map(str, figures)) + " |"

    def to_dict(self) -> dict[str, Any]:
        """Return what the page needs, as JSON values."""
        return {"seed": self.seed, "row": self.row(), "manual_repairs": list(self.manual_repairs)}


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """Write the whole page, from what :meth:`SeedResult.to_dict` gives of each seed."""
    head = HEAD.format(seeds=" ".join(str(each["seed"]) for each in results))
    lines = [head, "## Results", "", "| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += [each["row"] for each in results]
    for each in results:
        seed, manual_repairs = each["seed"], each["manual_repairs"]
        lines += ["", f"### Seed {seed}", "", f"![Timeline of seed {seed}](images/chaos-{seed}.png)", ""]
        lines += [f"- {text}" for text in manual_repairs] or ["No manual repair was needed."]
    return "\n".join(lines) + "\n"


def picture(result: SeedResult, path: Path) -> None:
    """Plot the clips over time, and below them the faults."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    course = result.course
    names = sorted({trouble.name for trouble, _, _ in course.played}, reverse=True)
    figure, (above, below) = pyplot.subplots(
        2, 1, sharex=True, figsize=(10, 7), height_ratios=(3, 2), layout="constrained"
    )
    times = [sample.at for sample in course.samples]
    for name, label in (("accepted", "accepted by the API"), ("charged", "charged"), ("archived", "in the bucket")):
        above.step(times, [getattr(sample, name) for sample in course.samples], where="post", label=label)
    above.axhline(result.account.wanted, linewidth=0.8, linestyle=":", color="grey")
    above.set_ylabel("clips")
    above.set_title(f"Seed {result.seed}: {result.account.wanted} clips, {result.account.charged} charges")
    above.legend(loc="lower right")
    for trouble, began, ended in course.played:
        colour = COLOURS[trouble.effect]
        below.barh(names.index(trouble.name), max(ended - began, 1.0), left=began, color=colour)
    below.set_yticks(range(len(names)), names, fontsize=8)
    below.set_xlabel("seconds since a tenth of the clips was submitted")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
