"""A site with a socket and an event stream, as uvicorn serves it. RECHECK: its `websocket_recheck`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from scsession_secure import SCsessionMiddleware

SECRET = "Qe7-vX2m_9Tr4Lb8Zc1Hd6Yw3Np5Kf0Js"

_news: set[asyncio.Queue[str]] = set()
_open: list[str] = []


async def _login(request: Request) -> Response:
    request.session["user_id"] = "ada"
    return Response()


async def _logout(request: Request) -> Response:
    request.session.clear()
    return Response()


async def _regenerate(request: Request) -> Response:
    session: Any = request.session
    session.regenerate()
    return Response()


async def _say(request: Request) -> Response:
    for queue in _news:
        queue.put_nowait(request.query_params["text"])
    return Response()


async def _still_open(_request: Request) -> Response:
    return JSONResponse(_open)


async def _told() -> AsyncIterator[str]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    _news.add(queue)
    _open.append("stream")
    try:
        yield ": hello\n\n"
        while True:
            yield f"data: {await queue.get()}\n\n"
    finally:
        _open.remove("stream")
        _news.discard(queue)


async def _events(_request: Request) -> Response:
    return StreamingResponse(_told(), media_type="text/event-stream")


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    _open.append("socket")
    try:
        while True:
            await websocket.send_text(f"{websocket.session['user_id']}: {await websocket.receive_text()}")
    finally:
        _open.remove("socket")


app = Starlette(
    routes=[
        Route("/login", _login, methods=["POST"]),
        Route("/logout", _logout, methods=["POST"]),
        Route("/regenerate", _regenerate, methods=["POST"]),
        Route("/say", _say, methods=["POST"]),
        Route("/open", _still_open),
        Route("/events", _events),
        WebSocketRoute("/echo", _echo),
    ],
    middleware=[
        Middleware(SCsessionMiddleware, secret_key=SECRET, websocket_recheck=float(os.environ.get("RECHECK", "30")))
    ],
)
