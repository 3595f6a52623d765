# SPDX-License-Identifier: Apache-2.0
"""The command ``spend``: what clips cost, and what was saved, by Dag, run or day."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from airflow_provider_wan.cli.arguments import open_ledger_store, parse_moment
from airflow_provider_wan.cli.ledger import CLOCK_MARGIN
from airflow_provider_wan.cli.output import format_time, format_usd, print_json, print_table
from airflow_provider_wan.ledger.entry import EntryState

if TYPE_CHECKING:
    from airflow_provider_wan.ledger import LedgerEntry


@dataclass
class Spending:
    """What a group has spent.

    :param clips: clips whose request was accepted, or may have been.
    :param estimate: US dollars for them by the prices at the payment, whatever became of them.
    :param charged: US dollars charged for those that are made, duplicate charges included.
    :param open: US dollars for those that are in flight or in doubt: charged if they are made.
    :param duplicates: duplicate charges.
    :param reused: how often a clip was handed out again instead of being paid for.
    :param saved: US dollars that these would have cost.
    """

    clips: int = 0
    estimate: float = 0.0
    charged: float = 0.0
    open: float = 0.0
    duplicates: int = 0
    reused: int = 0
    saved: float = 0.0


def show_spending(args: argparse.Namespace) -> int:
    """Print what was spent.

    :param args: parsed command line.
    """
    since = None if args.since is None else parse_moment("--since", args.since)
    until = None if args.until is None else parse_moment("--until", args.until)
    store = open_ledger_store(args)
    entries = store.entries(modified_since=None if since is None else since - CLOCK_MARGIN)
    groups = sum_up((stored.entry for stored in entries), args.by, since, until)
    total = Spending()
    for spending in groups.values():
        _add(total, spending)
    if args.json:
        rows = [{args.by: name, **_round(spending)} for name, spending in sorted(groups.items())]
        print_json(
            {
                "ledger": store.uri,
                "since": format_time(since),
                "until": format_time(until),
                "by": args.by,
                "groups": rows,
                "total": _round(total),
            }
        )
        return 0
    columns = (args.by, "clips", "estimate", "charged", "open", "duplicates", "reused", "saved")
    named = [*sorted(groups.items()), ("total", total)]
    print_table(columns, [_build_row(name, spending) for name, spending in named])
    return 0


def sum_up(entries: Iterable[LedgerEntry], by: str, since: float | None, until: float | None) -> dict[str, Spending]:
    """Return what each group has spent.

    A clip counts when its request was accepted, or was last sent; a reuse when the clip was handed out.

    :param entries: entries of the ledger.
    :param by: ``dag``, ``run`` or ``day``.
    :param since: Unix seconds; None: from the beginning.
    :param until: Unix seconds; None: until now.
    """
    groups: dict[str, Spending] = {}

    def find_group(dag_id: str | None, run_id: str | None, moment: float) -> Spending | None:
        if (since is not None and moment < since) or (until is not None and moment >= until):
            return None
        dag = dag_id or "(unknown)"
        day = (format_time(moment) or "")[:10]
        return groups.setdefault({"dag": dag, "run": f"{dag} {run_id or '(unknown)'}", "day": day}[by], Spending())

    for entry in entries:
        moment = entry.submitted_at or entry.last_sent_at
        is_sent = bool(entry.request_id or entry.duplicates) or entry.may_have_been_sent
        if is_sent and (group := find_group(entry.dag_id, entry.run_id, moment)):
            group.clips += 1
            group.estimate += entry.cost_estimate or 0.0
            group.duplicates += len(entry.duplicates)
            group.charged += sum(past.cost or 0.0 for past in entry.duplicates)
            if entry.state in (EntryState.SUBMITTED, EntryState.IN_DOUBT, EntryState.CLAIMED):
                group.open += entry.cost_estimate or 0.0
            else:
                group.charged += entry.cost or 0.0
        # The ledger names only the last reuses; the others count where the clip was paid for.
        unnamed = entry.reuse_count - len(entry.reuses)
        reuses = [(1, each.dag_id, each.run_id, each.at) for each in entry.reuses]
        for count, dag_id, run_id, at in [(unnamed, entry.dag_id, entry.run_id, moment), *reuses]:
            if count > 0 and (group := find_group(dag_id, run_id, at)):
                group.reused += count
                group.saved += count * (entry.cost_estimate or 0.0)
    return groups


def _add(total: Spending, spending: Spending) -> None:
    for name, value in asdict(spending).items():
        setattr(total, name, getattr(total, name) + value)


def _round(spending: Spending) -> dict[str, float]:
    return {name: round(value, 6) for name, value in asdict(spending).items()}


def _build_row(name: str, spending: Spending) -> tuple[object, ...]:
    amounts = [format_usd(value) for value in (spending.estimate, spending.charged, spending.open)]
    return (name, spending.clips, *amounts, spending.duplicates, spending.reused, format_usd(spending.saved))
