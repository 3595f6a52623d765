# SPDX-License-Identifier: Apache-2.0
"""Writes a video and its record to one key, so that of several tasks that do so at once exactly one succeeds.

The record's object is the lock: before the video appears, a task claims it by a conditional write over exactly what it
saw there, and in the end replaces its claim by the record. The video carries a condition as well; it is not enough by
itself, because servers check the condition of a multipart upload and complete it in two steps.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from airflow_provider_wan.api.errors import WanValidationError
from airflow_provider_wan.media.clip_record import RECORD_TYPE, is_foreign, parse_record, record_key
from airflow_provider_wan.s3.conditional import overwrites_existing, read_version, write_if
from airflow_provider_wan.s3.errors import (
    S3_ERRORS,
    S3ResponseError,
    get_error_code,
    is_not_implemented,
    is_precondition_failure,
)
from airflow_provider_wan.s3.objects import delete_object, find_object, put_object
from airflow_provider_wan.s3.uri import build_s3_uri

#: A claim of this age, in seconds, was left by a task that died, and may be taken over.
MAX_CLAIM_AGE = 1200.0
META_REQUEST = "wan-request-id"
_CLAIM_SCHEMA = "airflow-provider-wan/archiving/1"
_CLAIM_TRIES = 3
_CLAIM_RETRY_DELAY = 0.3

log = logging.getLogger(__name__)


class KeyConflictError(Exception):
    """The object at the key has changed since it was inspected."""


class KeyOccupiedError(WanValidationError):
    """Another request's clip, or a foreign object, lies at the key or is just being written there."""


class ConditionalWrites:
    """Whether a server honours conditions on writes, as far as this process knows.

    :param client: a boto3 S3 client.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self.are_honoured = True
        self._probed = False

    def probe(self, bucket: str, key: str, content: bytes) -> None:
        """Find out, once, by writing an object again with the content that it has.

        :param bucket: the bucket.
        :param key: key of an object that exists.
        :param content: its content.
        """
        if self._probed:
            return
        self._probed = True
        try:
            ignored = overwrites_existing(self.client, bucket, key, content, RECORD_TYPE)
        except S3_ERRORS as error:
            log.info("Whether the S3 server honours conditions can't be found out: %s", type(error).__name__)
            return
        if ignored:
            self.give_up(bucket, "ignores conditions on writes")

    def give_up(self, bucket: str, fault: str) -> None:
        """Write without conditions from here on.

        :param bucket: the bucket.
        :param fault: what the server does.
        """
        self.are_honoured = False
        log.warning(
            "The S3 server of bucket %s %s. Two tasks that archive to one key at the same moment can overwrite each "
            "other's clips there: keep keys apart, for example by the request id or {{ run_id }}.",
            bucket,
            fault,
        )


class ArchiveKey:
    """One key, and what this task saw there.

    :param conditions: what is known of the server.
    :param bucket: the bucket.
    :param key: the video's key.
    :param request_id: the request whose clip is to be written.
    :param replace: whether another request's clip, or a foreign object, may be overwritten.
    """

    def __init__(self, conditions: ConditionalWrites, bucket: str, key: str, request_id: str, *, replace: bool) -> None:
        self._conditions = conditions
        self._client = conditions.client
        self._bucket = bucket
        self._key = key
        self._record_key = record_key(key)
        self._request_id = request_id
        self._replace = replace
        self._overtaken = False
        self._head: dict[str, Any] | None = None
        self._record: tuple[bytes, str] | None = None

    def inspect(self) -> dict[str, Any] | None:
        """Inspect the object at the key.

        :returns: headers of this request's video, if it is there.
        :raises KeyOccupiedError: if another request's clip lies there or is just being written, or a foreign object; or
            if a foreign object has the record's key.
        """
        # In this order: whoever writes between the two has replaced the record that was seen.
        self._record = read_version(self._client, self._bucket, self._record_key, forbidden_is_absent=True)
        self._head = find_object(self._client, self._bucket, self._key, forbidden_is_absent=True)
        writing = self._find_claimant()
        if self._record is not None and not self._replace and is_foreign(self._record[0]):
            record_uri = build_s3_uri(self._bucket, self._record_key)
            raise self._build_error(f"needs {record_uri} for its record, which holds an object of another origin")
        maker = get_request_id(self._head)
        if maker == self._request_id:
            return self._head
        if writing is not None:
            raise self._build_error(f"is just being written for request {writing}")
        if self._head is not None and (not self._replace or self._overtaken):
            raise self._build_error(f"holds {self._describe_owner(maker)}")
        return None

    def commit(self, commit: Callable[[Mapping[str, str]], str]) -> str:
        """Make the video appear.

        :param commit: does so, under a condition.
        :returns: what it returns.
        :raises KeyConflictError: if something else lies at the key now.
        """
        before = self._record
        if self._conditions.are_honoured:
            self._claim()
        try:
            if self._conditions.are_honoured:
                condition = {"IfNoneMatch": "*"} if self._head is None else {"IfMatch": str(self._head["ETag"])}
                try:
                    return commit(condition)
                except S3ResponseError as error:
                    # A completion whose response was lost, and which was repeated, finds no upload any more.
                    repeated = get_error_code(error) == "NoSuchUpload" and self._has_changed()
                    if repeated or is_precondition_failure(error):
                        raise KeyConflictError from error
                    if not is_not_implemented(error):
                        raise
            if self._has_changed():
                raise KeyConflictError
            return commit({})
        except BaseException:
            self._release(before)
            raise

    def put_record(self, body: bytes) -> None:
        """Write the record over what was seen at its key, or over the claim.

        :param body: the record.
        :raises KeyConflictError: if something else lies at the key now.
        :raises KeyOccupiedError: on a server without conditional writes: if the clip was overwritten meanwhile.
        """
        if self._conditions.are_honoured and self._write_record(body):
            return
        put_object(self._client, self._bucket, self._record_key, body, RECORD_TYPE)
        maker = get_request_id(find_object(self._client, self._bucket, self._key))
        if maker not in (None, self._request_id):
            raise self._build_error(f"holds {self._describe_owner(maker)}")

    def overtaken(self) -> None:
        """Note that another task was faster: it may not be overwritten, whether or not this task may replace."""
        self._overtaken = True

    def _claim(self) -> None:
        claim = {"request_id": self._request_id, "claimed_at": time.time(), "nonce": uuid4().hex}
        content = json.dumps({"schema": _CLAIM_SCHEMA, **claim}).encode()
        if self._write_record(content):
            self._conditions.probe(self._bucket, self._record_key, content)

    def _write_record(self, content: bytes) -> bool:
        """Replace the record that was seen. Return False if the server turns out not to honour conditions."""
        seen = self._record
        for attempt in range(1, _CLAIM_TRIES + 1):
            try:
                version = write_if(
                    self._client, self._bucket, self._record_key, content, version=seen[1] if seen else None
                )
            except S3ResponseError as error:
                if not is_not_implemented(error):
                    raise
                self._conditions.give_up(self._bucket, "does not implement conditional writes")
                return False
            if version is not None:
                self._record = (content, version)
                return True
            if read_version(self._client, self._bucket, self._record_key) != seen:
                raise KeyConflictError
            # AWS refuses one of two writes at the same moment, although neither may be done yet.
            if attempt < _CLAIM_TRIES:
                time.sleep(_CLAIM_RETRY_DELAY * attempt)
        self._conditions.give_up(self._bucket, "refuses its own ETags, perhaps because a proxy rewrites them")
        return False

    def _release(self, before: tuple[bytes, str] | None) -> None:
        """Undo the claim as far as possible; a claim that stays ends after a while."""
        if self._record == before or self._record is None:
            return
        with contextlib.suppress(Exception):
            if before is None:
                # There may be the record of another task by now, which took the claim over.
                stored = read_version(self._client, self._bucket, self._record_key)
                if stored is not None and stored[0] == self._record[0]:
                    delete_object(self._client, self._bucket, self._record_key)
            else:
                write_if(self._client, self._bucket, self._record_key, before[0], version=self._record[1])

    def _find_claimant(self) -> str | None:
        """Return the other request for which the key is claimed, if its task may be alive."""
        try:
            claim = json.loads(self._record[0]) if self._record else None
            if not isinstance(claim, dict) or claim.get("schema") != _CLAIM_SCHEMA:
                return None
            is_alive = time.time() - float(claim["claimed_at"]) < MAX_CLAIM_AGE
            return str(claim["request_id"]) if is_alive and claim["request_id"] != self._request_id else None
        except (ValueError, KeyError, TypeError, RecursionError):
            return None

    def _has_changed(self) -> bool:
        # Without conditions, an object that may be there unseen would be overwritten.
        unseen = self._conditions.are_honoured
        now = find_object(self._client, self._bucket, self._key, forbidden_is_absent=unseen)
        return (now and now["ETag"]) != (self._head and self._head["ETag"])

    def _describe_owner(self, maker: str | None) -> str:
        recorded = parse_record(self._record[0], self._bucket, self._key) if self._record else None
        owner = recorded.request_id if recorded and recorded.request_id != self._request_id else maker
        return f"the clip of request {owner}" if owner else "an object of another origin"

    def _build_error(self, rule: str) -> KeyOccupiedError:
        remedy = "Put the request id or the run id into the key"
        if self._overtaken:
            rule += (
                f", because another task archived to it first. This task's clip is that of request {self._request_id}"
            )
        elif not self._replace:
            remedy += ", or set replace=True to have it overwritten"
        return KeyOccupiedError("s3_key", build_s3_uri(self._bucket, self._key), rule, remedy)


def build_own_key(key: str, request_id: str) -> str:
    """Return the key at which a clip is kept that must not lie at the one it was meant for.

    :param key: the key that it was meant for.
    :param request_id: the request that made it.
    """
    return f"{key.removesuffix('.mp4')}-{request_id}.mp4"


def get_request_id(head: Mapping[str, Any] | None) -> str | None:
    """Return the request that an object's metadata names.

    :param head: headers of the object; None if there is none.
    """
    request_id: str | None = None if head is None else head.get("Metadata", {}).get(META_REQUEST)
    return request_id
