# SPDX-License-Identifier: Apache-2.0
"""What a batch has read and written, for lineage and for links."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote


def datasets(manifest: Any, output: str, folder: str | None) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """
    Name inputs and outputs as OpenLineage names objects in S3: ``("s3://bucket", "key")``.

    :param manifest: as the operator has it; a list's images are named by the prefixes that they lie below.
    :param output: where the clips went.
    :param folder: where the results went.
    """
    if isinstance(manifest, str):
        read = [manifest] if manifest.startswith("s3://") else []
    else:
        images = (item if isinstance(item, str) else item.get("image") or item.get("img_url") for item in manifest)
        folders = {str(each).rpartition("/")[0] for each in images if str(each).startswith("s3://")}
        read = sorted(folders)[:100]
    written = [output, *([] if folder is None else [f"{folder}results.jsonl"])]
    return [_named(each) for each in read], [_named(each) for each in written]


def console_url(uri: str, endpoint: str) -> str:
    """Return where a person can open an object: AWS's console, or the object at an endpoint of one's own."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if ".amazonaws.com" in endpoint:
        return f"https://console.aws.amazon.com/s3/object/{bucket}?prefix={quote(key, safe='')}"
    return f"{endpoint.rstrip('/')}/{bucket}/{quote(key)}"


def _named(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return f"s3://{bucket}", key.strip("/") or "/"
