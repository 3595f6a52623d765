# SPDX-License-Identifier: Apache-2.0
"""Lineage of tasks for OpenLineage. It is imported only where the provider openlineage asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import attr
from airflow.providers.common.compat.openlineage.facet import (
    Dataset,
    OutputDataset,
    OutputStatisticsOutputDatasetFacet,
    RunFacet,
)
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.generated.base import OutputDatasetFacet

#: Other names of schemes, by which one object would be two datasets.
_SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}


@attr.define
class WanClipRunFacet(RunFacet):
    """What a run of a task has made.

    :param requestId: id of the request at the API.
    :param fingerprint: name of the ledger entry.
    :param sha256: of the bytes of the file.
    :param cost: US dollars that this task has paid.
    :param seconds: length of the video.
    :param resolution: ``720P`` or ``1080P``.
    :param model: the model's id.
    :param reused: whether another task had paid.
    """

    requestId: str | None = attr.field(default=None)
    fingerprint: str | None = attr.field(default=None)
    sha256: str | None = attr.field(default=None)
    cost: float | None = attr.field(default=None)
    seconds: float | None = attr.field(default=None)
    resolution: str | None = attr.field(default=None)
    model: str | None = attr.field(default=None)
    reused: bool | None = attr.field(default=None)


def name_dataset(uri: str) -> tuple[str, str]:
    """Return namespace and name of a file, as OpenLineage has them.

    :param uri: URI of an object, http(s) URL, whose query is left out, or a path.
    """
    scheme, separator, rest = uri.partition("://")
    scheme = scheme.lower()
    if not separator or scheme == "file":
        return "file", rest if separator else uri
    if scheme in ("http", "https"):
        parts = urlsplit(uri)
        host, path = parts.netloc, parts.path
    else:
        # A key may have a question mark or a hash in it.
        host, _, path = rest.partition("/")
    # Without the name and password, or the connection, that may be before it.
    return f"{_SCHEMES.get(scheme, scheme)}://{host.rpartition('@')[2]}", path.strip("/") or "/"


def name_request(base_url: str, request_id: str) -> str:
    """Return the URL of a request, by which the task that submits it and the one that archives its clip are joined.

    :param base_url: of the API.
    :param request_id: id of the request.
    """
    return f"{base_url.rstrip('/')}/requests/{request_id}"


def build_lineage(
    inputs: Iterable[str | None], outputs: Iterable[str | None], result: Mapping[str, Any] | None = None
) -> OperatorLineage[Any, Any]:
    """Return the lineage of a task.

    :param inputs: URIs of what was read; None is left out.
    :param outputs: URIs of what was written; likewise.
    :param result: result of the task.
    """
    values: dict[str, Any] = dict(result or {})
    facets: dict[str, OutputDatasetFacet] = {}
    if values.get("size") is not None:
        facets["outputStatistics"] = OutputStatisticsOutputDatasetFacet(size=values["size"], fileCount=1)
    clip = WanClipRunFacet(
        requestId=values.get("request_id"),
        fingerprint=values.get("fingerprint"),
        sha256=values.get("sha256"),
        cost=values.get("cost"),
        seconds=values.get("seconds"),
        resolution=values.get("resolution"),
        model=values.get("model"),
        reused=values.get("reused"),
    )
    return OperatorLineage(
        inputs=[Dataset(*name_dataset(uri)) for uri in inputs if uri],
        outputs=[OutputDataset(*name_dataset(uri), outputFacets=facets) for uri in outputs if uri],
        run_facets={"wanClip": clip} if values else {},
    )
