# SPDX-License-Identifier: Apache-2.0
"""Prepares items for submission: ingests their media or probes their URLs, and computes their fingerprints."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_wan.api.errors import WanError, WanValidationError
from airflow_provider_wan.api.request import WanRequest
from airflow_provider_wan.batch.results import ItemResult, ItemStatus
from airflow_provider_wan.batch.rows import InvalidRow, Item
from airflow_provider_wan.ledger import EntryState, LedgerError, LedgerStore, compute_fingerprint
from airflow_provider_wan.media.ingest import IngestedMedia, MediaIngester, MediaKind
from airflow_provider_wan.media.source import MediaSource, Origin, SourceMissingError, SourceUnavailableError
from airflow_provider_wan.media.url_probe import KINDS, UrlKind, UrlProbe
from airflow_provider_wan.s3.presign import PresignError

if TYPE_CHECKING:
    from airflow_provider_wan.batch.checkpoint import CheckpointStore

log = logging.getLogger(__name__)

#: Seconds for which a presigned URL must still be valid at the submission, so that the service can fetch it.
MIN_URL_SECONDS = 300.0
#: Shortest lifetime of a presigned URL in a batch: there is a minute until the submission.
MIN_LIFETIME = int(MIN_URL_SECONDS) + 60
#: Number of the first rows whose images are shown on the contact sheet.
SHEET_ROWS = 2000
THUMBNAIL_SIDE = 240
_MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class PreparedItem:
    """An item with what is known of its clip.

    :param item: the item.
    :param fingerprint: key in the ledger.
    :param request: the request to send; None: the item has to be prepared again before it can be sent.
    :param expires_at: Unix seconds at which the first of its URLs expires.
    :param cost: US dollars according to the ledger, once the request is accepted.
    :param paid_here: whether this task has paid for it.
    """

    item: Item
    fingerprint: str
    request: WanRequest | None = field(default=None, repr=False)
    expires_at: float | None = None
    cost: float | None = None
    paid_here: bool = False

    @property
    def row(self) -> int:
        """Row number."""
        return self.item.row

    def is_fresh(self, now: float) -> bool:
        """Return whether the URLs are valid long enough.

        :param now: Unix seconds.
        """
        return self.expires_at is None or self.expires_at - now >= MIN_URL_SECONDS

    def build_result(self, status: ItemStatus, **values: Any) -> ItemResult:
        """Return a result of the row.

        :param status: its status.
        :param values: other fields of :class:`~airflow_provider_wan.batch.results.ItemResult`.
        """
        return ItemResult(
            row=self.row,
            image=self.item.image.public_uri,
            status=status,
            seconds=self.item.request.duration,
            resolution=str(self.item.request.resolution),
            fingerprint=self.fingerprint,
            digest=self.item.digest,
            **values,
        )


class ItemPreparer:
    """Prepares items; safe to use from several threads.

    :param ingest: ingests media that are not on the web.
    :param scope: scope of the fingerprints.
    :param store: stores thumbnails for the contact sheet.
    :param ledger_store: store of the ledger: media of clips that it has are not probed.
    :param probe: probes URLs that the API is to fetch; None: they are passed on unread.
    :param sleep: waits the given seconds.
    """

    def __init__(
        self,
        ingest: MediaIngester,
        *,
        scope: str,
        store: CheckpointStore,
        ledger_store: LedgerStore,
        probe: UrlProbe | None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ingest = ingest
        self._scope = scope
        self._store = store
        self._ledger_store = ledger_store
        self._probe = probe
        self._sleep = sleep

    def prepare(self, item: Item) -> PreparedItem | InvalidRow:
        """Prepare an item. Errors that concern only this item are returned, not raised.

        :param item: the item.
        """
        from airflow_provider_wan.s3.errors import S3_ERRORS

        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                return self._prepare_once(item)
            except SourceUnavailableError as error:
                reason = str(error)
                if attempt < _MAX_ATTEMPTS:
                    self._sleep(attempt)
            except (WanValidationError, SourceMissingError) as error:
                reason = str(error)
                break
            except (*S3_ERRORS, PresignError, WanError, OSError) as error:
                reason = f"{type(error).__name__}: {error}"
                if attempt < _MAX_ATTEMPTS:
                    self._sleep(attempt)
        return InvalidRow(item.row, item.image.public_uri, f"row {item.row}: {' '.join(reason.split())}")

    def _prepare_once(self, item: Item) -> PreparedItem:
        ingested = {
            name: self._ingest_media(source, KINDS[name], item)
            for name, source in {"img_url": item.image, **item.media}.items()
            if source.origin is not Origin.WEB
        }
        request = item.request.with_media({name: each.url for name, each in ingested.items()})
        fingerprint = compute_fingerprint(
            request,
            scope=self._scope,
            # The bytes after fitting depend on a library's version, so the original identifies the file.
            media_sha256={name: each.source_sha256 for name, each in ingested.items()},
            idempotency_key=item.idempotency_key,
        )
        self._probe_urls(item, fingerprint)
        expiries = [each.expires_at for each in ingested.values() if each.expires_at is not None]
        # It may be prepared again, hours later: the content of its image is retained, but not in memory.
        media = {name: each.spool() for name, each in item.media.items()}
        retained = replace(item, image=item.image.spool(), media=media)
        return PreparedItem(retained, fingerprint, request, min(expiries, default=None))

    def _ingest_media(self, source: MediaSource, kind: UrlKind, item: Item) -> IngestedMedia:
        on_content = self._save_thumbnail(item) if source is item.image and item.row <= SHEET_ROWS else None
        return self._ingest.ingest(source, MediaKind(kind.value), on_content)

    def _probe_urls(self, item: Item, fingerprint: str) -> None:
        """Check what the API is to fetch, if the clip is still to be paid for: the link of an old one may have expired.

        :raises WanValidationError: if the API can't use it.
        :raises WanUrlProbeError: if there is no answer now.
        """
        sources = {"img_url": item.image, **item.media}
        urls = {name: each.text for name, each in sources.items() if each.origin is Origin.WEB}
        if self._probe is None or not urls or not self._is_payment_due(fingerprint):
            return
        for name, url in urls.items():
            self._probe.check("image" if name == "img_url" else name, url, KINDS[name])

    def _is_payment_due(self, fingerprint: str) -> bool:
        try:
            stored = self._ledger_store.read(fingerprint)
        except LedgerError:
            return True  # the submission will say what is wrong with the ledger
        return stored is None or stored.entry.state in (EntryState.FAILED, EntryState.CANCELLED)

    def _save_thumbnail(self, item: Item) -> Callable[[bytes], None]:
        def save(image: bytes) -> None:
            try:
                thumbnail = make_thumbnail(image)
            except Exception as error:  # such as broken EXIF: the service accepts the image, the sheet omits it
                log.info("%s has no thumbnail on the contact sheet (%s)", item.label, type(error).__name__)
                return
            self._store.put(f"stills/{item.row}.jpg", thumbnail, "image/jpeg")

        return save


def validate_batch_lifetime(seconds: int | None) -> None:
    """Refuse a lifetime of presigned URLs with which no row could ever be submitted.

    :param seconds: the lifetime; None for the default.
    :raises WanValidationError: if a URL would count as expired as soon as it is made.
    """
    if seconds is not None and seconds < MIN_LIFETIME:
        rule = f"must be at least {MIN_LIFETIME} s in a batch: at a submission, {MIN_URL_SECONDS:.0f} s have to be left"
        raise WanValidationError("expires_in", seconds, rule, "Leave it out: the default is 6 hours")


def make_thumbnail(image: bytes) -> bytes:
    """Return a small JPEG of an image.

    :param image: content of an image file.
    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(image)) as opened:
        opened.draft("RGB", (2 * THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE))
        upright = ImageOps.exif_transpose(opened).convert("RGB")
        upright.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        written = io.BytesIO()
        upright.save(written, "JPEG", quality=70)
        return written.getvalue()
