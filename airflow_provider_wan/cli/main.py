# SPDX-License-Identifier: Apache-2.0
"""
``wan-provider``: looks into the ledger, and settles by a person's word what can't be settled otherwise.

It runs where Airflow is installed and configured, and uses its connections. No call of it spends money.
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
    """Run a command. :return: the exit status: 0, or 1 with a message on standard error."""
    args = _parser().parse_args(arguments)
    try:
        command: Any = args.command
        return int(command(args))
    except WanError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def list_entries(args: argparse.Namespace) -> int:
    """Print a line an entry."""
    found = 0
    for held in _store(args).entries():
        entry = held.entry
        if args.state and entry.state != args.state:
            continue
        found += 1
        print(_line(entry))
    print(f"{found} entries" if found != 1 else "1 entry", file=sys.stderr)
    return 0


def reconcile(args: argparse.Namespace) -> int:
    """Look an entry up in the API's list, or take a person's verdict on it."""
    from airflow_provider_wan.ledger import Advance, Policy
    from airflow_provider_wan.ledger.reconcile import Finding, look

    store = _store(args)
    held = store.read(args.fingerprint)
    if held is None:
        raise WanValidationError(
            "fingerprint", args.fingerprint, f"is not in the ledger at {store.uri}", "`wan-provider ledger` lists all"
        )
    entry = held.entry
    print(_line(entry))
    undecided = entry.state is EntryState.IN_DOUBT or (
        entry.state is EntryState.CLAIMED and entry.posting_at is not None
    )
    if not undecided:
        print("There is no doubt about it.")
        return 0
    hook = _hook(args)
    if args.absent:
        advanced = Advance(store).absent(args.fingerprint)
        print(f"Noted that it was never accepted. The next attempt submits it. Now {advanced and advanced.state}.")
        return 0
    if args.request_id:
        record = hook.get_request(args.request_id)
        advance = Advance(store)
        advance.adopt(args.fingerprint, record.request_id)
        advanced = advance.finish(args.fingerprint, record)
        print(f"Noted request {record.request_id} ({record.status_text}). Now {advanced and advanced.state}.")
        return 0
    shown = look(hook.client, store, entry, None, Policy())
    if shown.finding is Finding.FOUND and shown.record is not None:
        print(f"The API's list has it: request {shown.record.request_id} ({shown.record.status_text}).")
        print("The next attempt of the task picks it up by itself; --request-id notes it now.")
        return 0
    if shown.finding is Finding.ABSENT:
        print("The API's list does not have it. The next attempt looks twice, and then submits; --absent skips that.")
        return 0
    print(f"It can't be told: {shown.reason}. Look in the console for a request with seed {entry.seed}.")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="wan-provider", description="Looks after clips and their ledger.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    ledger = commands.add_parser("ledger", help="list what the ledger holds")
    ledger.add_argument("--state", choices=[state.value for state in EntryState], help="only entries in this state")
    ledger.set_defaults(command=list_entries)

    doubt = commands.add_parser("reconcile", help="settle whether a submission was accepted")
    doubt.add_argument("fingerprint", help="as the task's log and `wan-provider ledger` tell it")
    verdict = doubt.add_mutually_exclusive_group()
    verdict.add_argument("--request-id", metavar="ID", help="it was accepted, as this request")
    verdict.add_argument("--absent", action="store_true", help="it was certainly never accepted: it may be submitted")
    doubt.add_argument("--wan-conn-id", default="wan_default", help="connection (default: %(default)s)")
    doubt.set_defaults(command=reconcile)

    for command in (ledger, doubt):
        command.add_argument("--ledger", metavar="URI", help="s3://… or file:///…; default: [wan] ledger_uri")
        command.add_argument("--aws-conn-id", default="aws_default", help="for s3:// (default: %(default)s)")
    return parser


def _store(args: argparse.Namespace) -> LedgerStore:
    from airflow_provider_wan.operators.memory import ledger_uri_of, open_ledger

    uri = ledger_uri_of(args.ledger)
    if uri is None:
        raise WanValidationError(
            "--ledger",
            None,
            "is needed, since [wan] ledger_uri is not set",
            "Entries in Airflow's task state store can't be reached from here",
        )
    return open_ledger({}, uri, args.aws_conn_id)


def _hook(args: argparse.Namespace) -> WanHook:
    from airflow_provider_wan.hooks.wan import WanHook

    return WanHook(args.wan_conn_id)


def _line(entry: LedgerEntry) -> str:
    when = datetime.fromtimestamp(entry.claimed_at, UTC).isoformat(timespec="seconds")
    cost = "-" if entry.cost is None else f"${entry.cost:.2f}"
    request = entry.request_id or "-"
    where = entry.archive_uri or (entry.outcome.error if entry.outcome and entry.outcome.error else "-")
    return f"{entry.fingerprint}  {entry.state:<9}  {when}  {cost:>7}  {request}  {entry.owner.split('#')[0]}  {where}"
