# SPDX-License-Identifier: Apache-2.0
"""The commands ``ledger`` and ``unarchived``: which clips the ledger knows, and which of them are not archived."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.cli.arguments import open_ledger_store, parse_day, parse_moment
from airflow_provider_wan.cli.output import format_line, format_time, format_usd, print_json_list, print_table
from airflow_provider_wan.ledger.entry import EntryState

if TYPE_CHECKING:
    from airflow_provider_wan.ledger import LedgerEntry

_COLUMNS = ("fingerprint", "state", "time (UTC)", "charged", "reused", "request", "task", "detail")


def list_entries(args: argparse.Namespace) -> int:
    """Print the entries that the filters select.

    :param args: parsed command line.
    """
    return _print_entries(args, build_filter(args))


def list_unarchived(args: argparse.Namespace) -> int:
    """Print the entries that are paid for, or may be, and whose clip is not archived.

    :param args: parsed command line.
    """
    selected = build_filter(args)
    file_exists = _build_file_check(args) if args.check_files else None

    def is_unarchived(entry: LedgerEntry) -> bool:
        if not selected(entry):
            return False
        if entry.state is EntryState.ARCHIVED:
            return file_exists is not None and not file_exists(entry.archive_uri or "")
        return entry.state in UNARCHIVED_STATES or entry.may_have_been_sent

    return _print_entries(args, is_unarchived)


#: Seconds by which an entry's own times and the clock of its store may differ.
CLOCK_MARGIN = 1800.0
#: States of clips that are paid for, or may be, and are not archived. A claim may be, too: its owner may have died
#: after the POST.
UNARCHIVED_STATES = (EntryState.SUBMITTED, EntryState.SUCCEEDED, EntryState.IN_DOUBT)


def build_filter(args: argparse.Namespace) -> Callable[[LedgerEntry], bool]:
    """Return whether the command line selects an entry.

    :param args: parsed command line.
    """
    since = None if args.since is None else parse_moment("--since", args.since)
    day = None if args.day is None else parse_day("--day", args.day)

    def selects(entry: LedgerEntry) -> bool:
        moment = entry.submitted_at or entry.claimed_at
        return (
            (not args.state or entry.state in args.state)
            and (args.dag is None or entry.dag_id == args.dag)
            and (args.run is None or entry.run_id == args.run)
            and (day is None or (format_time(moment) or "").startswith(day))
            and (since is None or moment >= since)
            and (not args.duplicates or bool(entry.duplicates))
        )

    return selects


def find_modified_since(args: argparse.Namespace) -> float | None:
    """Return the Unix seconds before which no entry was last written that the command line selects; None: any may be.

    :param args: parsed command line.
    """
    since = [] if args.since is None else [parse_moment("--since", args.since)]
    if args.day is not None:
        since.append(parse_moment("--day", parse_day("--day", args.day)))
    return max(since) - CLOCK_MARGIN if since else None


def describe_entry(entry: LedgerEntry) -> dict[str, Any]:
    """Return an entry as the commands show it.

    :param entry: the entry.
    """
    return {
        "fingerprint": entry.fingerprint,
        "state": entry.state.value,
        "dag_id": entry.dag_id,
        "run_id": entry.run_id,
        "task_id": entry.task_id,
        "map_index": entry.map_index,
        "owner": entry.owner.rsplit("#", 2)[0],
        "account": entry.account_name,
        "model": entry.model,
        "seconds": entry.duration,
        "resolution": entry.resolution,
        "seed": entry.seed,
        "claimed_at": format_time(entry.claimed_at),
        "submitted_at": format_time(entry.submitted_at),
        "finished_at": format_time(entry.finished_at),
        "request_id": entry.request_id,
        "estimate": entry.cost_estimate,
        "charged": entry.charged,
        "reuse_count": entry.reuse_count,
        "duplicates": [past.request_id for past in entry.duplicates],
        "source_uri": entry.source_uri,
        "archive_uri": entry.archive_uri,
        "error": entry.outcome.error if entry.outcome else None,
    }


def _print_entries(args: argparse.Namespace, selects: Callable[[LedgerEntry], bool]) -> int:
    def selected() -> Iterator[LedgerEntry]:
        for stored in open_ledger_store(args).entries(modified_since=find_modified_since(args)):
            if selects(stored.entry):
                yield stored.entry

    if args.json:
        print_json_list(describe_entry(entry) for entry in selected())
        return 0
    rows = []
    for entry in selected():
        moment = format_time(entry.submitted_at or entry.claimed_at) or ""
        detail = entry.archive_uri or (entry.outcome.error if entry.outcome and entry.outcome.error else "-")
        if entry.duplicates:
            detail += f"; duplicate charges: {', '.join(str(past.request_id) for past in entry.duplicates)}"
        task = entry.owner.rsplit("#", 2)[0]
        when = moment.removesuffix("+00:00")
        cost = format_usd(entry.charged)
        rows.append(
            (entry.fingerprint, entry.state.value, when, cost, entry.reuse_count, entry.request_id or "-", task, detail)
        )
    if rows:
        print_table(_COLUMNS, rows)
    print("1 entry" if len(rows) == 1 else f"{len(rows)} entries", file=sys.stderr)
    return 0


def _build_file_check(args: argparse.Namespace) -> Callable[[str], bool]:
    """Return whether a file is there, or may be: what can't be read is named, and taken to be there."""
    from airflow_provider_wan.hooks.s3_client import create_s3_client
    from airflow_provider_wan.s3.errors import S3_ERRORS, describe_s3_error
    from airflow_provider_wan.s3.objects import find_object
    from airflow_provider_wan.s3.uri import is_s3_uri, split_s3_uri

    client = create_s3_client(args.aws_conn_id)

    def exists(uri: str) -> bool:
        if not is_s3_uri(uri):
            return False
        try:
            return find_object(client, *split_s3_uri(uri)) is not None
        except S3_ERRORS as error:
            print(f"wan-provider: {format_line(describe_s3_error(error, uri))}", file=sys.stderr)
            return True

    return exists
