# SPDX-License-Identifier: Apache-2.0
"""The command ``harvest``: archives clips that are paid for and are not in the bucket."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_wan.api.errors import WanNotFoundError, WanResultGoneError
from airflow_provider_wan.cli.arguments import open_hook, open_ledger_store
from airflow_provider_wan.cli.ledger import build_filter, find_modified_since
from airflow_provider_wan.cli.output import print_json, print_table
from airflow_provider_wan.ledger.entry import EntryState
from airflow_provider_wan.s3.uri import build_s3_uri, parse_s3_prefix

if TYPE_CHECKING:
    from airflow_provider_wan.hooks.wan import WanHook
    from airflow_provider_wan.ledger import Ledger, LedgerEntry
    from airflow_provider_wan.media.archive import ClipArchive


@dataclass(frozen=True)
class Harvested:
    """What became of one request.

    :param fingerprint: the clip.
    :param request_id: its request.
    :param outcome: ``archived``, ``existing``, ``running``, ``not made``, ``gone`` or ``error``; ``to archive`` in a
        dry run.
    :param uri: where the clip is.
    :param detail: why there is none, or what is wrong with it.
    """

    fingerprint: str
    request_id: str
    outcome: str
    uri: str | None = None
    detail: str | None = None


#: Outcomes after which a person has to look.
FAULTS = ("gone", "error")


class Harvester:
    """Archives what is paid for.

    :param hook: hook of the API's connection.
    :param ledger: the ledger.
    :param archive: writes the clips.
    :param destination: bucket, and prefix that is empty or ends in ``/``.
    :param dry_run: whether nothing is written.
    """

    def __init__(
        self,
        hook: WanHook,
        ledger: Ledger,
        archive: ClipArchive,
        destination: tuple[str, str],
        *,
        dry_run: bool,
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._archive = archive
        self._bucket, self._prefix = destination
        self._dry_run = dry_run

    def harvest(self, entry: LedgerEntry) -> Iterator[Harvested]:
        """Archive the clip of an entry, and those of its duplicate charges.

        :param entry: the entry.
        """
        if entry.request_id and self._is_missing(entry):
            yield self._harvest_request(entry, entry.request_id, "")
        for past in entry.duplicates:
            if past.request_id:
                yield self._harvest_request(entry, past.request_id, f"-duplicate-{past.request_id}")

    def _is_missing(self, entry: LedgerEntry) -> bool:
        if entry.state is EntryState.ARCHIVED:
            return self._archive.is_missing(entry.archive_uri, str(entry.request_id), entry.archive_sha256)
        return entry.state in (EntryState.SUBMITTED, EntryState.SUCCEEDED)

    def _harvest_request(self, entry: LedgerEntry, request_id: str, suffix: str) -> Harvested:
        key = f"{self._prefix}{_build_name(entry)}{suffix}.mp4"
        uri = build_s3_uri(self._bucket, key)
        try:
            return self._archive_request(entry, request_id, key, uri)
        except (WanNotFoundError, WanResultGoneError) as error:
            return Harvested(entry.fingerprint, request_id, "gone", detail=str(error))
        except Exception as error:
            # One clip must not keep the others from being archived.
            return Harvested(entry.fingerprint, request_id, "error", detail=f"{type(error).__name__}: {error}")

    def _archive_request(self, entry: LedgerEntry, request_id: str, key: str, uri: str) -> Harvested:
        from airflow_provider_wan.api.record import RequestStatus
        from airflow_provider_wan.ledger.recovery import build_asked_clip
        from airflow_provider_wan.media.archive import MismatchedClipError

        is_current = request_id == entry.request_id
        clip = self._archive.find(self._bucket, key, request_id, forbidden_is_absent=True)
        outcome, detail = "existing", None
        if clip is None:
            record = self._hook.get_request(request_id)
            if not self._dry_run and is_current:
                self._ledger.record_result(entry.fingerprint, record)
            if record.status is not RequestStatus.SUCCESS:
                ended = "not made" if record.status.is_terminal else "running"
                return Harvested(entry.fingerprint, request_id, ended, detail=record.error or record.status_text)
            if self._dry_run:
                return Harvested(entry.fingerprint, request_id, "to archive", uri)
            outcome = "archived"
            asked = build_asked_clip(entry)
            try:
                clip = self._archive.store(record, self._bucket, key, asked=asked, cost=entry.cost_estimate)
            except MismatchedClipError as error:
                clip, detail = error.clip, str(error)
        if not self._dry_run and is_current:
            self._ledger.record_archive(
                entry.fingerprint, request_id, clip.uri, clip.sha256, is_missing=self._archive.is_missing
            )
        return Harvested(entry.fingerprint, request_id, outcome, clip.uri, detail)


def harvest(args: argparse.Namespace) -> int:
    """Archive what is paid for and is not in the bucket.

    :param args: parsed command line.
    """
    from airflow_provider_wan.hooks.s3_client import create_s3_client
    from airflow_provider_wan.ledger import Ledger
    from airflow_provider_wan.media.archive import ClipArchive
    from airflow_provider_wan.media.fetch import ResultHosts

    destination = parse_s3_prefix(args.to, "--to")
    store, hook = open_ledger_store(args), open_hook(args)
    config = hook.config
    archive = ClipArchive(create_s3_client(args.aws_conn_id), ResultHosts.from_config(config))
    harvester = Harvester(hook, Ledger(store), archive, destination, dry_run=args.dry_run)
    selects = build_filter(args)
    results: list[Harvested] = []
    others = 0
    for stored in store.entries(modified_since=find_modified_since(args)):
        if not selects(stored.entry):
            continue
        if stored.entry.account != config.account.id:
            others += 1
            continue
        results += harvester.harvest(stored.entry)
    counts: dict[str, int] = {}
    for each in results:
        counts[each.outcome] = counts.get(each.outcome, 0) + 1
    if args.json:
        clips = [vars(each) for each in results]
        print_json({"to": args.to, "dry_run": args.dry_run, "counts": counts, "clips": clips, "other_accounts": others})
    else:
        if results:
            rows = [(each.outcome, each.request_id, each.uri or each.detail or "-") for each in results]
            print_table(("outcome", "request", "clip"), rows)
        print(", ".join(f"{count} {name}" for name, count in counts.items()) or "Nothing to archive.", file=sys.stderr)
        if others:
            print(f"{others} entries of other accounts were left out.", file=sys.stderr)
    return 1 if any(each.outcome in FAULTS for each in results) else 0


def _build_name(entry: LedgerEntry) -> str:
    """Return the name that a batch gives the clip: that of the image, and the start of the fingerprint."""
    from airflow_provider_wan.batch.rows import build_stem

    return f"{build_stem(entry.source_uri or '')}-{entry.fingerprint[:10]}"
