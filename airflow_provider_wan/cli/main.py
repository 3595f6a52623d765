# SPDX-License-Identifier: Apache-2.0
"""
The command ``wan-provider``: inspects clips and their ledger, archives what is missing, and checks a deployment.

It runs where Airflow is installed and configured, and uses its connections. No command spends money.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.cli.arguments import open_hook, open_ledger_store
from airflow_provider_wan.cli.doctor import check_up
from airflow_provider_wan.cli.harvest import harvest
from airflow_provider_wan.cli.ledger import describe_entry, list_entries, list_unarchived
from airflow_provider_wan.cli.output import (
    format_line,
    keep_logs_out_of_the_output,
    print_error,
    print_json,
    show_skipped_entries,
)
from airflow_provider_wan.cli.spend import show_spending
from airflow_provider_wan.ledger.entry import EntryState

if TYPE_CHECKING:
    from airflow_provider_wan.hooks.wan import WanHook
    from airflow_provider_wan.ledger import LedgerEntry, LedgerStore


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param arguments: command line without the program's name; None for the process's own.
    :returns: exit status: 0; 1 if something that was found needs a person; 2 if the command can't be carried out, with
        one line on standard error.
    """
    args = build_parser().parse_args(arguments)
    keep_logs_out_of_the_output()
    try:
        command: Any = args.command
        with show_skipped_entries():
            status = int(command(args))
        # Python would ignore an error of what is still in the buffer, and end with a status of its own.
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        _discard_output()
        return 0
    except Exception as error:
        # Of Airflow's errors (no such connection), the database's and those of S3, one line is all that helps.
        print_error(error)
        try:
            sys.stdout.flush()
        except OSError:
            _discard_output()
        return 2


def _discard_output() -> None:
    """Discard what can't be written to standard output, now and when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def reconcile_command(args: argparse.Namespace) -> int:
    """
    Run :func:`reconcile`, and print what it prints as JSON if that is asked for.

    :param args: parsed command line.
    """
    if not args.json:
        return reconcile(args)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = reconcile(args)
    stored = open_ledger_store(args).read(args.fingerprint)
    entry = describe_entry(stored.entry) if stored else None
    print_json({"entry": entry, "resolved": status == 0, "messages": printed.getvalue().splitlines()[1:]})
    return status


def reconcile(args: argparse.Namespace) -> int:
    """
    Search the API's list for an entry's request, or record a person's decision on it.

    :param args: parsed command line.
    """
    import time

    from airflow_provider_wan.ledger import Ledger, Policy
    from airflow_provider_wan.ledger.manual_resolution import adopt_request, confirm_absence
    from airflow_provider_wan.ledger.reconcile import Finding, reconcile_entry
    from airflow_provider_wan.ledger.submitter import check_account

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
        adopted = adopt_request(client, ledger, stored, record, policy)
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
            "Not in the API's list. The next attempt scans the list twice, and then submits; --absent records the "
            "absence now, after one more scan."
        )
        return 0
    print(f"{result.finding.value.capitalize()}: {result.reason}.")
    print(f"Look in the console for a request with seed {entry.seed}.")
    return 1


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="wan-provider",
        description="Inspect clips and their ledger, archive what is missing, and check a deployment. Runs where "
        "Airflow is configured, and uses its connections. No command pays for a clip.",
        epilog="Exit status: 0; 1 if something that was found needs a person; 2 if the command can't be carried out.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Any, summary: str, description: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {description}"
        )
        command.set_defaults(command=run)
        command.add_argument("--json", action="store_true", help="print JSON for programs")
        command.add_argument(
            "--ledger",
            metavar="URI",
            help="s3://… or file:///…; default: as for a task that names none ([wan] ledger_uri, or wan-ledger below "
            "AIRFLOW_HOME). Without [wan] ledger_uri, that of a batch is <output_prefix>/_ledger",
        )
        command.add_argument("--aws-conn-id", default="aws_default", help="AWS connection (default: %(default)s)")
        return command

    doctor = add(
        "doctor",
        check_up,
        "check everything that a task needs",
        "Checks the connection, proxy and certificates, the API over both HTTP libraries, the key, the model's "
        "parameters and price, the clock, the ledger with its conditional writes, and with --output the rights on S3. "
        "It writes one small object beside the ledger's entries, and one below --output, which it deletes.",
    )
    doctor.add_argument("--output", metavar="URI", help="s3://bucket/prefix/ of your clips, to check the rights there")

    ledger = add(
        "ledger", list_entries, "list the entries of the ledger", "One line per clip, duplicate charges shown."
    )
    _add_filters(ledger)

    unarchived = add(
        "unarchived",
        list_unarchived,
        "list clips that are paid for, or may be, and are not archived",
        "These are in the state submitted, succeeded or in_doubt, or claimed by a task that may have ended while it "
        "submitted. `harvest` archives those that are made; `reconcile` resolves those in doubt.",
    )
    _add_filters(unarchived)
    unarchived.add_argument(
        "--check-files", action="store_true", help="also list archived clips whose file is gone: one request each"
    )

    harvesting = add(
        "harvest",
        harvest,
        "archive clips that are paid for and are not in the bucket",
        "Fetches each from the API, checks it, writes it below --to with its record, and notes that in the ledger. "
        "Duplicate charges are archived too. Clips that were archived and are gone are fetched again while the service "
        "has them. Running it again archives nothing twice.",
    )
    harvesting.add_argument("--to", metavar="URI", required=True, help="s3://bucket/prefix/ to write to")
    harvesting.add_argument("--dry-run", action="store_true", help="only show what would be archived")
    _add_filters(harvesting)

    spend = add(
        "spend",
        show_spending,
        "sum up what clips cost, by Dag, run or day",
        "`estimate` is the price of all requests, `charged` that of the clips that are made and of duplicate charges, "
        "`open` that of requests in flight or in doubt, and `saved` that of clips that were reused. Prices are those "
        "in use at the payment; the service's bill is authoritative.",
    )
    spend.add_argument("--since", metavar="TIME", help="7d, 12h, or 2026-11-25 (UTC); default: from the beginning")
    spend.add_argument("--until", metavar="TIME", help="likewise; default: now")
    spend.add_argument("--by", choices=("dag", "run", "day"), default="dag", help="group (default: %(default)s)")

    reconciling = add(
        "reconcile",
        reconcile_command,
        "find out, or record, whether a submission was accepted",
        "Without an option it searches the API's list and changes nothing.",
    )
    reconciling.add_argument("fingerprint", help="as shown in the task's log and by `wan-provider ledger`")
    answer = reconciling.add_mutually_exclusive_group()
    answer.add_argument("--request-id", metavar="ID", help="it was accepted, as this request")
    answer.add_argument("--absent", action="store_true", help="it was certainly never accepted: it may be submitted")

    for command in (doctor, harvesting, reconciling):
        command.add_argument("--wan-conn-id", default="wan_default", help="connection (default: %(default)s)")
    return parser


def _add_filters(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--state", action="append", choices=[state.value for state in EntryState], help="only these; repeatable"
    )
    command.add_argument("--dag", metavar="ID", help="only clips of this Dag")
    command.add_argument("--run", metavar="ID", help="only clips of this Dag run")
    command.add_argument("--day", metavar="YYYY-MM-DD", help="only clips submitted on this day (UTC)")
    command.add_argument("--since", metavar="TIME", help="only clips submitted since: 7d, 12h, or 2026-11-25 (UTC)")
    command.add_argument("--duplicates", action="store_true", help="only clips with duplicate charges")


def _open_store(args: argparse.Namespace) -> LedgerStore:
    return open_ledger_store(args)


def _open_hook(args: argparse.Namespace) -> WanHook:
    return open_hook(args)


def _format_line(entry: LedgerEntry) -> str:
    when = datetime.fromtimestamp(entry.claimed_at, UTC).isoformat(timespec="seconds")
    cost = "-" if entry.cost is None else f"${entry.cost:.2f}"
    request = entry.request_id or "-"
    detail = entry.archive_uri or (entry.outcome.error if entry.outcome and entry.outcome.error else "-")
    owner = entry.owner.split("#")[0]
    return f"{entry.fingerprint}  {entry.state:<9}  {when}  {cost:>7}  {request}  {owner}  {format_line(detail)}"
