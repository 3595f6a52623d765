# SPDX-License-Identifier: Apache-2.0
"""
The gallery's routes.

Every route asks Airflow who calls: an anonymous caller gets 401. A caller sees the clips of the Dags that they may
read, and gets 403 for those of others. A clip that no Dag asked for is shown to those who may read all Dags. Media are
redirects to URLs that are valid for some minutes, made after the same check.
"""

from __future__ import annotations

import html
import time
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from airflow_provider_wan.plugins.gallery.batches import ProgressReader, list_batches
from airflow_provider_wan.plugins.gallery.clips import (
    MAX_PAGE_SIZE,
    PAGE_SIZE,
    Clip,
    ClipQuery,
    prompt_and_parameters,
    select,
    spend,
)
from airflow_provider_wan.plugins.gallery.index import ClipIndex
from airflow_provider_wan.plugins.gallery.media import MediaUnavailableError, is_absent, media_url, read_clip_record
from airflow_provider_wan.plugins.gallery.source import open_index

STATIC = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src * data:; media-src *; "
        "base-uri 'self'; form-action 'none'; frame-ancestors 'self'"
    ),
}
may_read_dag = Depends(requires_access_dag("GET"))


def create_app(index: ClipIndex | None = None) -> FastAPI:
    """
    Return the gallery as an application to be mounted by Airflow's API server.

    :param index: the clips; default: those of the ledgers that the deployment and its tasks use.
    """
    app = FastAPI(
        title="Wan gallery",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(get_user)],
    )
    app.state.index = index or open_index()
    app.state.progress = ProgressReader()

    @app.middleware("http")
    async def add_headers(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    app.get("/")(_page)
    app.get("/spend")(_page)
    app.get("/static/{name}")(_static)
    app.get("/dags/{dag_id}", dependencies=[may_read_dag])(_page)
    app.get("/dags/{dag_id}/tasks/{task_id}", dependencies=[may_read_dag])(_page)
    app.get("/dags/{dag_id}/runs/{run_id:path}/tasks/{task_id}/{map_index}/sheet", dependencies=[may_read_dag])(_sheet)
    app.get("/dags/{dag_id}/runs/{run_id:path}/tasks/{task_id}/{map_index}", dependencies=[may_read_dag])(_page)
    app.get("/dags/{dag_id}/runs/{run_id:path}", dependencies=[may_read_dag])(_page)
    app.get("/api/clips")(_clips)
    app.get("/api/spend")(_spend)
    app.get("/api/clips/{clip_id}")(_clip)
    app.get("/media/{clip_id}/video")(_video)
    app.get("/media/{clip_id}/source")(_source)
    return app


def _page(request: Request) -> HTMLResponse:
    base = html.escape(request.scope.get("root_path", "").rstrip("/") + "/", quote=True)
    return HTMLResponse((STATIC / "gallery.html").read_text("utf-8").replace("{{ base }}", base))


def _static(name: str) -> FileResponse:
    path = STATIC / name
    if name != path.name or path.suffix not in _TYPES or not path.is_file():
        raise HTTPException(404, "There is no such file.")
    return FileResponse(path, media_type=_TYPES[path.suffix], headers={"Cache-Control": "max-age=300"})


def _scope(
    request: Request,
    user: GetUserDep,
    dag_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    map_index: int | None = None,
    state: Annotated[list[str] | None, Query()] = None,
    text: str = "",
    page: int = 1,
    size: int = PAGE_SIZE,
) -> ClipQuery:
    """Read a query, and limit it to the Dags that the caller may read."""
    if dag_id is not None:
        _check_dag(request, user, dag_id)
        readable: set[str | None] = {dag_id}
    else:
        readable = _list_readable(request, user)
    index = None if map_index is None or map_index < 0 else map_index
    size = min(size, MAX_PAGE_SIZE)
    return ClipQuery(readable, dag_id, run_id, task_id, index, tuple(state or ()), text[:200], page, size)


ScopeDep = Annotated[ClipQuery, Depends(_scope)]


def _clips(request: Request, query: ScopeDep) -> dict[str, Any]:
    snapshot = request.app.state.index.snapshot()
    now = time.time()
    return select(snapshot.clips, query, now) | {
        "now": now,
        "read_at": snapshot.read_at,
        "reading": snapshot.reading,
        "error": snapshot.error(query.dag_ids),
        "batches": _progress(request, query),
    }


def _progress(request: Request, query: ClipQuery) -> list[dict[str, Any]]:
    if query.dag_id is None or query.run_id is None:
        return []
    reader: ProgressReader = request.app.state.progress
    return reader.read(list_batches(query.dag_id, query.run_id, query.task_id, query.map_index))


def _sheet(dag_id: str, run_id: str, task_id: str, map_index: int) -> RedirectResponse:
    batches = list_batches(dag_id, run_id, task_id, map_index)
    uri = batches[0].sheet_uri if batches else None
    # A batch names its sheet when it begins.
    is_written = uri is not None and not is_absent(uri)
    return _redirect(uri if is_written else None, "There is no contact sheet: a batch writes it when it ends.")


def _spend(request: Request, query: ScopeDep) -> dict[str, Any]:
    snapshot = request.app.state.index.snapshot()
    return spend(snapshot.clips, query) | {
        "now": time.time(),
        "read_at": snapshot.read_at,
        "reading": snapshot.reading,
        "error": snapshot.error(query.dag_ids),
    }


def _readable_clip(request: Request, user: GetUserDep, clip_id: str) -> Clip:
    index: ClipIndex = request.app.state.index
    # Another process of the API server may have given the list: this one's may be old, or not there yet.
    index.refresh()
    clip = index.get(clip_id)
    if clip is None and not index.is_complete:
        raise HTTPException(503, "The ledger is not read yet, or can't be read. Try again in a moment.")
    if clip is None:
        raise HTTPException(404, "The ledger has no such clip.")
    _check_dag(request, user, clip.dag_id)
    return clip


ClipDep = Annotated[Clip, Depends(_readable_clip)]


def _clip(clip: ClipDep) -> dict[str, Any]:
    details: dict[str, Any] = {"parameters": {}, "video": {}}
    error = None
    if clip.archive_uri:
        try:
            details = prompt_and_parameters(read_clip_record(clip.archive_uri))
        except MediaUnavailableError as problem:
            error = str(problem)
    return {"clip": clip.as_dict(time.time()), "record_error": error, **details}


def _video(clip: ClipDep) -> RedirectResponse:
    return _redirect(clip.archive_uri, "The clip is not archived.")


def _source(clip: ClipDep) -> RedirectResponse:
    return _redirect(clip.source_uri, "The ledger does not know the source image.")


def _redirect(uri: str | None, missing: str) -> RedirectResponse:
    if not uri:
        raise HTTPException(404, missing)
    try:
        return RedirectResponse(media_url(uri), status_code=307)
    except MediaUnavailableError as problem:
        raise HTTPException(503, str(problem)) from None


def _list_readable(request: Request, user: Any) -> set[str | None]:
    """Return the Dags that the caller may read, and None if they may see the clips of no Dag."""
    readable: set[str | None] = set(get_auth_manager().get_authorized_dag_ids(user=user, method="GET"))
    if not _may_read_all(user):
        return readable
    # Airflow lists only Dags that exist. Of the others, each is asked for: one may be denied to who may read all.
    index: ClipIndex = request.app.state.index
    index.refresh()
    others = index.dag_ids() - readable
    return readable | {dag_id for dag_id in others if _may_read(request, user, dag_id)}


def _may_read(request: Request, user: Any, dag_id: str | None) -> bool:
    try:
        _check_dag(request, user, dag_id)
    except HTTPException:
        return False
    return True


def _may_read_all(user: Any) -> bool:
    return bool(get_auth_manager().is_authorized_dag(method="GET", details=DagDetails(), user=user))


def _check_dag(request: Request, user: Any, dag_id: str | None) -> None:
    """Raise 403 if the caller may not read a Dag, or, if it is None, all Dags."""
    if dag_id is not None:
        requires_access_dag("GET", param_dag_id=dag_id)(request, user)
    elif not _may_read_all(user):
        raise HTTPException(403, "Forbidden")
