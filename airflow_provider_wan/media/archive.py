# SPDX-License-Identifier: Apache-2.0
"""Brings a clip into S3: streamed, checked as it flows, and visible only when it is whole.

The engine knows nothing of Airflow. In one pass over the bytes it counts, hashes, reads the MP4's boxes and
uploads; the upload is committed only after all the checks. The record is written last: where it lies and fits
the video, the clip is archived, and a second run downloads nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from airflow_provider_wan.api.errors import (
    WanResultError,
    WanResultGoneError,
    WanResultMismatchError,
    WanResultRefusedError,
    WanValidationError,
)
from airflow_provider_wan.api.record import RequestRecord
from airflow_provider_wan.media.archive_key import (
    META_REQUEST,
    ArchiveKey,
    ConditionalWrites,
    KeyConflictError,
    KeyOccupiedError,
    build_own_key,
    get_request_id,
)
from airflow_provider_wan.media.clip_record import (
    MAX_RECORD_BYTES,
    VIDEO_TYPE,
    ArchivedClip,
    build_copy_record,
    build_record,
    is_foreign,
    parse_record,
    record_key,
)
from airflow_provider_wan.media.delivery import AskedClip, list_contradictions, list_deviations, mismatch_message
from airflow_provider_wan.media.fetch import (
    CHUNK_BYTES,
    BrokenDownloadError,
    ResultHosts,
    open_result,
)
from airflow_provider_wan.media.video import Mp4Checker, VideoInfo
from airflow_provider_wan.s3.errors import S3_ERRORS, describe_s3_error, get_error_code
from airflow_provider_wan.s3.multipart import MultipartUpload, ObjectWriter
from airflow_provider_wan.s3.objects import find_object, get_etag, is_gone, list_objects, open_object, read_object
from airflow_provider_wan.s3.uri import build_s3_uri, is_s3_uri, split_s3_uri

DEFAULT_MAX_BYTES = 2 * 1024**3
_ATTEMPTS = 4
_LONGEST_PAUSE = 8.0  # seconds between two attempts
_META_SHA256 = "sha256"

log = logging.getLogger(__name__)


class StoreError(WanResultError):
    """S3 refuses to read or write where a clip is archived."""


class MismatchedClipError(WanResultMismatchError):
    """The clip is not the one that was asked for. It is kept at a key of its own, with its record.

    :param clip: the clip that is kept.
    """

    def __init__(self, clip: ArchivedClip) -> None:
        self.clip = clip
        super().__init__(mismatch_message(clip.request_id, clip.deviations, clip.uri))

    def __reduce__(self) -> tuple[type[MismatchedClipError], tuple[ArchivedClip]]:
        return type(self), (self.clip,)


class _DeviationError(Exception):
    """A downloaded video is not the one that was asked for, and was not stored."""


class Presence(StrEnum):
    """Whether a clip is where the ledger says."""

    PRESENT = "present"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PresenceCheck:
    """What is at the address of a clip.

    :param presence: whether the clip is there.
    :param reason: why it is missing, or why that can't be found out.
    :param clip: the clip, if it is there.
    """

    presence: Presence
    reason: str = ""
    clip: ArchivedClip | None = None


class ClipArchive:
    """The clips in one S3.

    :param client: a boto3 S3 client.
    :param hosts: where results may lie.
    :param max_bytes: a result beyond this is refused.
    :param replace: whether another request's clip, or a foreign object, at the same key may be overwritten.
    """

    def __init__(
        self, client: Any, hosts: ResultHosts, *, max_bytes: int = DEFAULT_MAX_BYTES, replace: bool = False
    ) -> None:
        self._client = client
        self._hosts = hosts
        self._max_bytes = max_bytes
        self._replace = replace
        self._conditions = ConditionalWrites(client)
        #: Unix seconds after which a download is broken off; ``None`` for no limit.
        self.deadline: float | None = None

    def find(self, bucket: str, key: str, request_id: str, *, forbidden_is_absent: bool = False) -> ArchivedClip | None:
        """Look whether the request's clip lies at the key, whole and with its record.

        The record is believed where the object's size and ETag are those that it names: then no byte of the
        video is read.

        :param forbidden_is_absent: whether a 403, S3's response for an absent object to credentials that may not list
            the bucket, counts as absent. :meth:`store` then still overwrites nothing.
        :return: the clip; ``None`` when :meth:`store` has to be called.
        :raises StoreError: when S3 refuses to answer.
        :raises KeyOccupiedError: when something else lies there, and ``replace`` is not set.
        """
        with _explain_s3_errors(bucket, key):
            return self._find(bucket, key, request_id, forbidden_is_absent)

    def _find(self, bucket: str, key: str, request_id: str, forbidden_is_absent: bool) -> ArchivedClip | None:
        head = find_object(self._client, bucket, key, forbidden_is_absent=forbidden_is_absent)
        if head is None:
            return None
        recorded = self._read_record(bucket, key)
        if recorded is not None and recorded.request_id == request_id:
            if recorded.video.size == head["ContentLength"] and recorded.etag == get_etag(head):
                return recorded.as_existing()
            # Copied by another tool, perhaps: the same bytes may have another ETag.
            if self._verify(bucket, key, request_id, recorded.sha256) is not None:
                return recorded.as_existing()
        if not self._replace:
            ArchiveKey(self._conditions, bucket, key, request_id, replace=False).inspect()
        return None

    def find_request_id(self, bucket: str, key: str) -> str | None:
        """Return the request whose clip lies at the key; None for none.

        It is empty for an object of another origin, at the key or at that of the record.
        """
        head = find_object(self._client, bucket, key, forbidden_is_absent=True)
        if head is not None:
            return get_request_id(head) or ""
        record = read_object(self._client, bucket, record_key(key), MAX_RECORD_BYTES, forbidden_is_absent=True)
        return "" if record is not None and is_foreign(record) else None

    def check(self, uri: str | None, request_id: str, sha256: str | None) -> PresenceCheck:
        """Look for a clip where the ledger says that it is archived.

        Only S3's own word proves that it is gone: what can't be read (a 403, a store that does not answer) is unknown.

        :param uri: where it was archived.
        :param request_id: the request that made it.
        :param sha256: SHA-256 of the file, if known.
        """
        if not uri or not is_s3_uri(uri):
            return PresenceCheck(Presence.UNKNOWN, f"{uri or 'no address'} is not on S3")
        bucket, key = split_s3_uri(uri)
        try:
            head = find_object(self._client, bucket, key)
            if head is None:
                # The 404 of a HEAD has no body, and may be that of a proxy.
                if is_gone(self._client, bucket, key):
                    return PresenceCheck(Presence.MISSING, "there is no object")
                return PresenceCheck(Presence.UNKNOWN, "S3 does not say that there is no object")
            recorded = self._read_record(bucket, key)
            if recorded is not None and (recorded.request_id != request_id or sha256 not in (None, recorded.sha256)):
                recorded = None
            if recorded and (recorded.video.size, recorded.etag) == (head["ContentLength"], get_etag(head)):
                clip: ArchivedClip | None = recorded
            else:
                clip = self._verify(bucket, key, request_id, recorded.sha256 if recorded else sha256)
        except (*S3_ERRORS, OSError) as error:
            return PresenceCheck(Presence.UNKNOWN, get_error_code(error) or type(error).__name__)
        if clip is None:
            return PresenceCheck(Presence.MISSING, "another object is there")
        return PresenceCheck(
            Presence.PRESENT, clip=replace(clip, existing=True, deviations=recorded.deviations if recorded else ())
        )

    def is_missing(self, uri: str | None, request_id: str, sha256: str | None) -> bool:
        """Return whether a clip is certainly not where the ledger says.

        :param uri: where it was archived.
        :param request_id: the request that made it.
        :param sha256: SHA-256 of the file, if known.
        """
        return self.check(uri, request_id, sha256).presence is Presence.MISSING

    def list_etags(self, bucket: str, prefix: str, keys: Collection[str]) -> dict[str, str]:
        """Return the ETags of those keys at which there is an object, without quotes.

        :param bucket: the bucket.
        :param prefix: prefix of all keys; what is between them is listed, too.
        :param keys: the keys.
        :raises botocore.exceptions.ClientError: if S3 refuses the request.
        """
        if not keys:
            return {}
        # The order of code points is that of UTF-8, which is S3's.
        listed = list_objects(self._client, bucket, prefix, after=min(keys)[:-1], until=max(keys))
        return {each["Key"]: get_etag(each) for each in listed if each["Key"] in keys}

    def check_result(self, request: RequestRecord) -> None:
        """Find out whether the result's host still has a file, without reading it.

        :param request: a request that has succeeded.
        :raises WanResultError: if it has not, or does not say; the errors are those of :meth:`store`.
        """
        with open_result(request.video_url or "", self._hosts, self.deadline):
            pass

    def archive(
        self,
        bucket: str,
        key: str,
        request_id: str,
        fetch: Callable[[], RequestRecord],
        *,
        sources: Sequence[str | None] = (),
        asked: AskedClip | None = None,
        cost: Callable[[RequestRecord], float | None] = lambda record: None,
    ) -> ArchivedClip:
        """Find a clip at its key; or copy it there from where it was archived before; or download it.

        If another object has the key, the clip is kept at a key of its own: it is paid for. Then its ``displaced`` says
        why.

        :param bucket: bucket of the clip.
        :param key: key of the clip.
        :param request_id: the request that made it.
        :param fetch: returns the finished request with a fresh URL; called only if the clip has to be downloaded.
        :param sources: ``s3://`` URIs at which the clip may be.
        :param asked: what was asked for, as far as it is known.
        :param cost: returns the US dollars that the request cost, for the record; None if they are unknown.
        :raises MismatchedClipError: if the clip is not the one that was asked for; it is kept.
        :raises StoreError: if S3 refuses to read or write there.
        :raises WanResultError: as :meth:`store`.
        """
        try:
            return self._archive(bucket, key, request_id, fetch, sources, asked, cost)
        except KeyOccupiedError as error:
            log.warning("The clip of request %s gets a key of its own: %s", request_id, error)
            reason = str(error)
        own_key = build_own_key(key, request_id)
        clip = self._archive(bucket, own_key, request_id, fetch, sources, asked, cost)
        return replace(clip, displaced=f"{reason}. The clip of request {request_id} is paid for: it is at {clip.uri}")

    def _archive(
        self,
        bucket: str,
        key: str,
        request_id: str,
        fetch: Callable[[], RequestRecord],
        sources: Sequence[str | None],
        asked: AskedClip | None,
        cost: Callable[[RequestRecord], float | None],
    ) -> ArchivedClip:
        # Where the clip is said to be, a 403 does not mean that it was deleted.
        is_expected = build_s3_uri(bucket, key) in sources
        clip = self.find(bucket, key, request_id, forbidden_is_absent=not is_expected)
        for uri in dict.fromkeys(filter(None, sources)):
            if clip is None and uri != build_s3_uri(bucket, key) and is_s3_uri(uri):
                clip = self.copy(uri, bucket, key, request_id)
        if clip is None:
            try:
                request = fetch()
                clip = self.store(request, bucket, key, asked=asked, cost=cost(request))
            except WanResultGoneError as error:
                # It is lost only if it is certainly at none of the addresses: a copy may also fail for now.
                for uri in filter(None, sources):
                    if not self.is_missing(uri, request_id, None):
                        message = f"{uri} can't be copied now, and the service no longer has the clip"
                        raise StoreError(f"{message}. It is paid for: a retry copies it, and pays nothing") from error
                raise
        if clip.deviations:
            raise MismatchedClipError(clip)
        return clip

    def store(
        self,
        request: RequestRecord,
        bucket: str,
        key: str,
        *,
        asked: AskedClip | None = None,
        cost: float | None = None,
    ) -> ArchivedClip:
        """Archive a clip that :meth:`find` did not find.

        A video of this request that lies there without a record (the writer died between the two) is checked
        where it is, and not downloaded again. A clip that is not the one that was asked for is kept at a key of its
        own: it is paid for.

        :param request: a finished request, with a result URL that was fetched just now.
        :param bucket: bucket of the clip.
        :param key: key of the clip.
        :param asked: what was asked for, as far as it is known; the rest is taken from the API's echo.
        :param cost: US dollars, for the record.
        :raises MismatchedClipError: if the clip is not the one that was asked for; it is kept.
        :raises KeyOccupiedError: as :meth:`find`.
        :raises WanResultGoneError: when the host no longer has it.
        :raises WanResultRefusedError: a foreign host, or a file beyond ``max_bytes``.
        :raises WanResultError: when the file is cut off or no video, or could not be fetched for now.
        :raises StoreError: when S3 refuses it.
        """
        if not request.video_url:
            raise WanResultError(f"Request {request.request_id} is {request.status_text} without a result URL")
        suffix = f"-{request.request_id}.mp4"
        own_key = key if key.endswith(suffix) else build_own_key(key, request.request_id)
        earlier = self.find(bucket, own_key, request.request_id, forbidden_is_absent=True)
        if earlier is not None and earlier.deviations:
            raise MismatchedClipError(earlier)
        asked = asked or AskedClip()
        faults = list_contradictions(request, asked)
        if asked.seconds is None:
            echoed = request.payload.get("duration")
            seconds = float(echoed) if isinstance(echoed, int | float) and not isinstance(echoed, bool) else None
            asked = replace(asked, seconds=seconds)
        if not faults:
            try:
                return self._store_at(request, bucket, key, asked, cost, keep=None)
            except _DeviationError:
                log.warning("The clip of request %s is not the one that was asked for; it is kept", request.request_id)
        raise MismatchedClipError(self._store_at(request, bucket, own_key, asked, cost, keep=faults))

    def _store_at(
        self,
        request: RequestRecord,
        bucket: str,
        key: str,
        asked: AskedClip,
        cost: float | None,
        *,
        keep: Sequence[str] | None,
    ) -> ArchivedClip:
        """Archive a clip at a key.

        :param keep: what else is wrong with the clip, which is kept however it deviates; None: it must not deviate.
        """
        retrying = Retrying(
            stop=self._is_over,
            wait=wait_random_exponential(multiplier=0.5, max=_LONGEST_PAUSE),
            retry=retry_if_exception_type(BrokenDownloadError),
            before_sleep=lambda state: log.warning("%s; trying again", state.outcome and state.outcome.exception()),
            reraise=True,
        )

        def mark(clip: ArchivedClip) -> ArchivedClip:
            return replace(clip, deviations=(*(keep or ()), *list_deviations(clip.video, asked)))

        with _explain_s3_errors(bucket, key):
            clip = self._write_once(
                bucket,
                key,
                request.request_id,
                lambda target: retrying(self._download, request, bucket, key, asked, target, keep is not None),
                lambda clip: build_record(mark(clip), request, cost),
            )
        return mark(clip)

    def copy(self, source_uri: str, bucket: str, key: str, request_id: str) -> ArchivedClip | None:
        """Copy a clip that was archived elsewhere before, within S3, with its record.

        :param source_uri: where it was archived.
        :return: the copy; ``None`` when it no longer lies there whole.
        :raises MismatchedClipError: when it is not the clip that was asked for.
        :raises KeyOccupiedError: when something else lies at the key, and ``replace`` is not set.
        """
        source_bucket, source_key = split_s3_uri(source_uri)
        try:
            source = self.find(source_bucket, source_key, request_id)
            body = (
                read_object(self._client, source_bucket, record_key(source_key), MAX_RECORD_BYTES) if source else None
            )
        except (*S3_ERRORS, StoreError, WanValidationError) as error:
            log.warning("%s can't be copied: %s", source_uri, error)
            return None
        if source is None or body is None:
            return None
        if source.deviations:
            raise MismatchedClipError(source)
        try:
            return self._write_once(
                bucket,
                key,
                request_id,
                lambda target: self._copy_video(source, bucket, key, target),
                lambda clip: build_copy_record(body, clip, source_uri),
            )
        except S3_ERRORS as error:
            log.warning("%s can't be copied: %s", source_uri, get_error_code(error) or type(error).__name__)
            return None

    def _write_once(
        self,
        bucket: str,
        key: str,
        request_id: str,
        write: Callable[[ArchiveKey], ArchivedClip],
        build: Callable[[ArchivedClip], bytes],
    ) -> ArchivedClip:
        """Write a video and its record, or only the record if the video lies there already.

        Of two tasks that write to one key, one wins. The other finds its own clip there, if both archive the same
        request, or else gets an error that names the clip's request.

        :param write: writes the video, and raises :class:`KeyConflictError` if the key has changed.
        :param build: builds the record.
        """
        target = ArchiveKey(self._conditions, bucket, key, request_id, replace=self._replace)
        for _ in range(_ATTEMPTS):
            head = target.inspect()
            clip = None if head is None else self._reuse_video(bucket, key, request_id, head)
            try:
                if clip is None:
                    clip = write(target)
                target.put_record(build(clip))
            except KeyConflictError:
                target.overtaken()
            else:
                return clip
        raise WanResultError(
            f"{build_s3_uri(bucket, key)} keeps being changed by other tasks. The clip is paid for: use a key that "
            "only this task writes, then retry."
        )

    def _reuse_video(self, bucket: str, key: str, request_id: str, head: dict[str, Any]) -> ArchivedClip | None:
        recorded = self._read_record(bucket, key)
        is_ours = recorded is not None and recorded.request_id == request_id
        sha256 = recorded.sha256 if recorded and is_ours else head["Metadata"].get(_META_SHA256)
        return self._verify(bucket, key, request_id, sha256)

    def _copy_video(self, source: ArchivedClip, bucket: str, key: str, target: ArchiveKey) -> ArchivedClip:
        found = find_object(self._client, source.bucket, source.key)
        if found is None or found["ContentLength"] != source.video.size:
            raise WanResultError(f"{source.uri} changed while it was copied; a retry copies it again")
        metadata = {**_request_metadata(source.request_id), _META_SHA256: source.sha256}
        upload = MultipartUpload(self._client, bucket, key, content_type=VIDEO_TYPE, metadata=metadata)
        try:
            upload.copy_from(source.bucket, source.key, str(found["ETag"]), source.video.size)
            etag = target.commit(upload.complete)
        except BaseException:
            upload.abort()
            raise
        written = find_object(self._client, bucket, key)
        if written is None or written["ContentLength"] != source.video.size:
            raise WanResultError(f"The copy of {source.uri} at {build_s3_uri(bucket, key)} is not whole")
        return replace(source, bucket=bucket, key=key, etag=etag, existing=False)

    def _download(
        self,
        request: RequestRecord,
        bucket: str,
        key: str,
        asked: AskedClip,
        target: ArchiveKey,
        keeps_deviations: bool,
    ) -> ArchivedClip:
        metadata = _request_metadata(request.request_id)
        writer = ObjectWriter(self._client, bucket, key, content_type=VIDEO_TYPE, metadata=metadata)
        try:
            with open_result(request.video_url or "", self._hosts, self.deadline) as download:
                if download.length is not None:
                    self._check_size(download.length)
                checker, digest = Mp4Checker(), hashlib.sha256()
                for piece in download.pieces:
                    self._check_size(checker.size + len(piece))
                    checker.feed(piece)
                    digest.update(piece)
                    writer.write(piece)
            if download.length not in (None, checker.size):
                raise BrokenDownloadError(
                    f"{download.source_url}: {checker.size} of {download.length} bytes came: the clip is cut off"
                )
            video = checker.finish()
            if not keeps_deviations and (faults := list_deviations(video, asked)):
                if download.length is None and video.seconds < (asked.seconds or 0.0):
                    raise BrokenDownloadError(f"{download.source_url}: the clip may be cut off: {'; '.join(faults)}")
                raise _DeviationError
            sha256 = {_META_SHA256: digest.hexdigest()}
            etag = target.commit(lambda condition: writer.commit(sha256, condition))
        except BaseException:
            writer.abort()
            raise
        return ArchivedClip(request.request_id, bucket, key, digest.hexdigest(), etag, video)

    def _is_over(self, state: RetryCallState) -> bool:
        if state.attempt_number >= _ATTEMPTS:
            return True
        return self.deadline is not None and time.time() + state.upcoming_sleep >= self.deadline

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise WanResultRefusedError(
                f"The result has more than {self._max_bytes} bytes; raise max_bytes if that is right"
            )

    def _verify(self, bucket: str, key: str, request_id: str, sha256: str | None) -> ArchivedClip | None:
        """Read the object in S3 itself. ``None`` when it is not whole, or not the one of that hash."""
        with open_object(self._client, bucket, key) as (body, answer):
            try:
                video, found = _read_through(iter(lambda: body.read(CHUNK_BYTES), b""))
            except WanResultError as error:
                log.warning("s3://%s/%s is not whole: %s", bucket, key, error)
                return None
        if sha256 not in (None, found):
            log.warning("s3://%s/%s has other bytes than those that were archived", bucket, key)
            return None
        return ArchivedClip(request_id, bucket, key, found, get_etag(answer), video, existing=True)

    def _read_record(self, bucket: str, key: str) -> ArchivedClip | None:
        body = read_object(self._client, bucket, record_key(key), MAX_RECORD_BYTES, forbidden_is_absent=True)
        return None if body is None else parse_record(body, bucket, key)


@contextlib.contextmanager
def _explain_s3_errors(bucket: str, key: str) -> Iterator[None]:
    try:
        yield
    except S3_ERRORS as error:
        message = describe_s3_error(error, build_s3_uri(bucket, key))
    else:
        return
    raise StoreError(f"{message}; then retry or clear this task. The clip is paid for, and that pays nothing.")


def _read_through(pieces: Iterable[bytes]) -> tuple[VideoInfo, str]:
    checker, digest = Mp4Checker(), hashlib.sha256()
    for piece in pieces:
        checker.feed(piece)
        digest.update(piece)
    return checker.finish(), digest.hexdigest()


def _request_metadata(request_id: str) -> dict[str, str]:
    return {META_REQUEST: request_id} if request_id.isascii() else {}
