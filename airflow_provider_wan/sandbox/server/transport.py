# SPDX-License-Identifier: Apache-2.0
"""Delivery of responses on sockets: send, delay, throttle, truncate, or reset the connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator

from aiohttp import web

from airflow_provider_wan.sandbox.responses import SandboxResponse, WireBehavior

SERVER = "wan-sandbox"
_PIECE = 16 * 1024
_LINGER = struct.pack("ii", 1, 0)


async def send(request: web.Request, answer: SandboxResponse, hang_seconds: float) -> web.StreamResponse:
    """Deliver a response as its fields say."""
    if answer.delay > 0:
        await asyncio.sleep(answer.delay)
    if answer.wire is WireBehavior.HANG:
        await asyncio.sleep(hang_seconds)
    if answer.wire is not WireBehavior.SEND:
        return reset(request)
    headers = {"Server": SERVER, **answer.headers}
    if answer.file is not None:
        return web.FileResponse(answer.file, headers={**headers, "Content-Type": answer.content_type})
    headers["Content-Type"] = answer.content_type
    if answer.stream is None and answer.bytes_per_second is None and answer.declared_length is None:
        return web.Response(status=answer.status, body=answer.body, headers=headers)
    return await _stream(request, answer, headers)


def reset(request: web.Request) -> web.Response:
    """Reset the TCP connection, so that the client cannot mistake it for an orderly close."""
    transport = request.transport
    if transport is not None:
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        transport.abort()
    return web.Response()


async def _stream(request: web.Request, answer: SandboxResponse, headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=headers)
    length = answer.declared_length
    if length is None and answer.stream is None:
        length = len(answer.body)
    response.content_length = length
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    sent = 0
    for piece in answer.stream() if answer.stream is not None else _pieces(answer.body):
        if answer.bytes_per_second is not None:
            await asyncio.sleep(len(piece) / answer.bytes_per_second)
        await response.write(piece)
        sent += len(piece)
    if length is not None and sent < length and request.transport is not None:
        request.transport.close()
    return response


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]
