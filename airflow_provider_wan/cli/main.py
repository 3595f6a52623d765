# SPDX-License-Identifier: Apache-2.0
"""
The command ``wan-provider``: shows the ledger, and records a person's verdict on a submission in doubt.

It runs where Airflow is installed and configured, and uses its connections. No command spends money.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.api.errors import WanError, WanValidationError
from airflow_provider_wan.ledger.entry import EntryState

if TYPE_CHECKING:
    from airflow_provider_wan.hooks.wan import WanHook
    from airflow_provider_wan.ledger import LedgerEntry, LedgerStore


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param arguments: command line without the program's name; None for the process's own.
    :returns: exit status: 0, or 1 with a message on standard error.
    """
    args = _build_parser().parse_args(arguments)
    try:
        command: Any = args.command
        return int(command(args))
    except WanError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def list_entries(args: argparse.Namespace) -> int:
    """
    Print one line per entry.

    :param args: parsed command line.
    """
    count = 0
    for stored in _open_store(args).entries():
        entry = stored.entry
        if args.state and entry.state != args.state:
            continue
        count += 1
        print(_format_line(entry))
    print(f"{count} entries" if count != 1 else "1 entry", file=sys.stderr)
    return 0


def reconcile(args: argparse.Namespace) -> int:
    """
    Look for an entry's request in the API's list, or record a person's verdict on it.

    :param args: parsed command line.
    """
    import time

    from airflow_provider_wan.ledger import Ledger, Policy
    from airflow_provider_wan.ledger.reconcile import Finding, reconcile_entry
    from airflow_provider_wan.ledger.submitter import check_account
    from airflow_provider_wan.ledger.verdict import adopt_request, confirm_absence

    store = _open_store(args)
    stored = store.read(args.fingerprint)
    if stored is None:
        raise WanValidationError(
            "fingerprint", args.fingerprint, f"is not in the ledger at {store.uri}", "`wan-provider ledger` lists all"
        )
    entry = stored.entry
    print(_format_line(entry))
    if not entry.may_have_been_sent:
        print("The entry is not in doubt; nothing to reconcile.")
        return 0
    client = _open_hook(args).client
    ledger, policy = Ledger(store), Policy()
    check_account(entry, client.account)
    if args.absent:
        confirm_absence(client, ledger, stored, policy, time.time())
        print("Recorded that it was never accepted. The next attempt submits it.")
        return 0
    if args.request_id:
        record = client.get_request(args.request_id)
        adopted = adopt_request(client, ledger, stored, record, policy, time.time())
        updated = ledger.record_result(args.fingerprint, record) or adopted
        print(f"Recorded request {record.request_id} ({record.status_text}). State: {updated.state.value}.")
        return 0
    result = reconcile_entry(client, store, entry, None, policy, time.time())
    if result.finding is Finding.FOUND and result.record is not None:
        print(f"Found in the API's list: request {result.record.request_id} ({result.record.status_text}).")
        print("The next attempt of the task continues with it; --request-id records it now.")
        return 0
    if result.finding is Finding.ABSENT:
        print(
            "Not in the API's list. The next attempt scans the list twice, and then submits; --absent skips the scans."
        )
        return 0
    print(f"{result.finding.value.capitalize()}: {result.reason}.")
    print(f"Look in the console for a request with seed {entry.seed}.")
    return 1


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wan-provider", description="Inspect clips and their ledger.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    ledger = commands.add_parser("ledger", help="list the entries of the ledger")
    ledger.add_argument("--state", choices=[state.value for state in EntryState], help="only entries in this state")
    ledger.set_defaults(command=list_entries)

    reconciling = commands.add_parser("reconcile", help="find out, or record, whether a submission was accepted")
    reconciling.add_argument("fingerprint", help="as shown in the task's log and by `wan-provider ledger`")
    answer = reconciling.add_mutually_exclusive_group()
    answer.add_argument("--request-id", metavar="ID", help="it was accepted, as this request")
    answer.add_argument("--absent", action="store_true", help="it was certainly never accepted: it may be submitted")
    reconciling.add_argument("--wan-conn-id", default="wan_default", help="connection (default: %(default)s)")
    reconciling.set_defaults(command=reconcile)

    for command in (ledger, reconciling):
        command.add_argument("--ledger", metavar="URI", help="s3://… or file:///…; default: [wan] ledger_uri")
        command.add_argument("--aws-conn-id", default="aws_default", help="for s3:// (default: %(default)s)")
    return parser


def _open_store(args: argparse.Namespace) -> LedgerStore:
    from airflow_provider_wan.operators.ledger_context import open_ledger, resolve_ledger_uri

    return open_ledger(resolve_ledger_uri(args.ledger), args.aws_conn_id)


def _open_hook(args: argparse.Namespace) -> WanHook:
    from airflow_provider_wan.hooks.wan import WanHook

    return WanHook(args.wan_conn_id)


def _format_line(entry: LedgerEntry) -> str:
    when = datetime.fromtimestamp(entry.claimed_at, UTC).isoformat(timespec="seconds")
    cost = "-" if entry.cost is None else f"${entry.cost:.2f}"
    request = entry.request_id or "-"
    detail = entry.archive_uri or (entry.outcome.error if entry.outcome and entry.outcome.error else "-")
    return f"{entry.fingerprint}  {entry.state:<9}  {when}  {cost:>7}  {request}  {entry.owner.split('#')[0]}  {detail}"
