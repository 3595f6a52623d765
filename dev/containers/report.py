# SPDX-License-Identifier: Apache-2.0
"""The page of a run: its steps with their times, and the memory of each service."""

from __future__ import annotations

from pathlib import Path

from dev.containers.journal import Journal

HEAD = """\
# Container tests

`make test-containers` runs the shipped `docker-compose.yml` and `Dockerfile`, unchanged, on a Docker Engine. It uses
the engine of the machine if one answers. Otherwise, as root on Debian, it makes a private engine from Debian's packages
in a folder of the checkout. That engine and its containers live in mount, network and process namespaces of their own,
so nothing remains on the machine afterwards.

Without a registry, stand-ins for the base images are built under the official names and tags. Airflow, PostgreSQL,
Redis and SeaweedFS are the same versions, but their entry points and base systems are not those of the official images.

`make test-containers WRITE=1` wrote this page.
"""


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


def write_page(journal: Journal, path: Path) -> Path:
    """Write the page of the run in the journal."""
    parts = [HEAD]
    engines, ends = journal.read("engine"), journal.read("end")
    if engines and ends:
        parts.append(f"\n{engines[0]['text']}; {ends[0]['seconds']} s in all.\n")
    steps: list[tuple[object, ...]] = [(each["text"], f"{each['seconds']:.1f}") for each in journal.read("step")]
    parts.append("\n## Steps\n\n" + table(("step", "seconds"), steps))
    figures: list[tuple[object, ...]] = [(each["text"], each["value"]) for each in journal.read("figure")]
    if figures:
        parts.append("\n## Figures\n\n" + table(("what", "value"), figures))
    peaks: dict[str, tuple[float, float]] = {}
    for each in journal.read("memory"):
        seen, _ = peaks.get(each["service"], (0.0, 0.0))
        peaks[each["service"]] = (max(seen, each["used"]), each["limit"])
    if peaks:
        rows: list[tuple[object, ...]] = [
            (f"`{service}`", f"{used:.0f}", f"{limit:.0f}") for service, (used, limit) in sorted(peaks.items())
        ]
        parts.append(
            "\n## Memory\n\nThe most that was seen in samples, without the page cache, in MiB.\n\n"
            + table(("service", "used", "limit"), rows)
        )
    path.write_text("".join(parts), encoding="utf-8")
    return path
