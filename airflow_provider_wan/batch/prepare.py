# SPDX-License-Identifier: Apache-2.0
"""Makes an item ready to be submitted: its media ingested, its fingerprint known."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_wan.api.errors import WanError, WanValidationError
from airflow_provider_wan.api.request import I2VRequest
from airflow_provider_wan.batch.item import BadRow, Item
from airflow_provider_wan.ledger import fingerprint_of
from airflow_provider_wan.media.ingest import Ingest, Kind
from airflow_provider_wan.media.presign import PresignError
from airflow_provider_wan.media.source import Origin, Source, SourceMissingError

if TYPE_CHECKING:
    from airflow_provider_wan.batch.journal import Journal

log = logging.getLogger(__name__)

#: What a presigned URL must still live at the submission, for the service to fetch it.
MIN_URL_SECONDS = 300.0
#: Images of the first rows are shown on the contact sheet.
SHEET_ROWS = 120
STILL_SIDE = 320
_TRIES = 3


@dataclass(frozen=True)
class Clip:
    """
    One clip on its way.

    :param item: what is wanted.
    :param fingerprint: its name in the ledger.
    :param request: what is sent; None where it has to be made ready anew before it can be sent.
    :param expires_at: Unix seconds at which one of its URLs dies.
    :param cost: US dollars by the ledger, once it is accepted.
    :param ours: whether this task has paid for it.
    """

    item: Item
    fingerprint: str
    request: I2VRequest | None = field(default=None, repr=False)
    expires_at: float | None = None
    cost: float | None = None
    ours: bool = False

    @property
    def row(self) -> int:
        """Number of its row."""
        return self.item.row

    def fresh(self, now: float) -> bool:
        """Whether it can be sent as it is."""
        return self.request is not None and (self.expires_at is None or self.expires_at - now >= MIN_URL_SECONDS)


class Preparer:
    """
    Makes items ready; used by several threads.

    :param ingest: takes in images and sound that do not lie on the web.
    :param scope: of the fingerprints.
    :param force_token: of the fingerprints.
    :param journal: where pictures for the contact sheet are kept.
    :param sleep: waits seconds.
    """

    def __init__(
        self,
        ingest: Ingest,
        *,
        scope: str,
        force_token: str | None,
        journal: Journal,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ingest = ingest
        self._scope = scope
        self._force_token = force_token
        self._journal = journal
        self._sleep = sleep

    def prepare(self, item: Item) -> Clip | BadRow:
        """Make it ready, or say why it can't be. Never raises what concerns this item alone."""
        from botocore.exceptions import BotoCoreError, ClientError

        for attempt in range(1, _TRIES + 1):
            try:
                return self._ready(item)
            except (WanValidationError, SourceMissingError) as error:
                reason = str(error)
                break
            except (BotoCoreError, ClientError, PresignError, WanError, OSError) as error:
                reason = f"{type(error).__name__}: {error}"
                if attempt < _TRIES:
                    self._sleep(attempt)
        return BadRow(item.row, item.image.shown, f"row {item.row}: {reason}")

    def _ready(self, item: Item) -> Clip:
        image_url, image_sha256, image_dies = self._take(item.image, Kind.IMAGE, item)
        audio_url, audio_sha256, audio_dies = None, None, None
        if item.audio is not None:
            audio_url, audio_sha256, audio_dies = self._take(item.audio, Kind.AUDIO, item)
        request = item.with_sources(image_url, audio_url)
        fingerprint = fingerprint_of(
            request,
            scope=self._scope,
            image_sha256=image_sha256,
            audio_sha256=audio_sha256,
            force_token=self._force_token,
        )
        deaths = [moment for moment in (image_dies, audio_dies) if moment is not None]
        return Clip(item, fingerprint, request, min(deaths, default=None))

    def _take(self, source: Source, kind: Kind, item: Item) -> tuple[str, str | None, float | None]:
        if source.origin is Origin.WEB:
            return source.text, None, None
        keep = self._still(item.row) if kind is Kind.IMAGE and item.row <= SHEET_ROWS else None
        taken = self._ingest.take(source, kind, keep)
        # What fitting makes of an image may change with the version of a library: the original tells what it is.
        return taken.url, taken.source_sha256, taken.expires_at

    def _still(self, row: int) -> Callable[[bytes], None]:
        def keep(image: bytes) -> None:
            try:
                still = small_picture(image)
            except Exception as error:  # a broken EXIF, for one: the service takes the image, the sheet goes without it
                log.info("Row %d has no picture on the contact sheet (%s)", row, type(error).__name__)
                return
            self._journal.put(f"stills/{row}.jpg", still, "image/jpeg")

        return keep


def small_picture(image: bytes) -> bytes:
    """Return a small JPEG of an image."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(image)) as opened:
        opened.draft("RGB", (2 * STILL_SIDE, 2 * STILL_SIDE))
        upright = ImageOps.exif_transpose(opened).convert("RGB")
        upright.thumbnail((STILL_SIDE, STILL_SIDE))
        written = io.BytesIO()
        upright.save(written, "JPEG", quality=80)
        return written.getvalue()
