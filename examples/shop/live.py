"""The page "Live": what happens in all sessions of an account, told over a WebSocket that ends with its own session.

Nothing in here looks after that end. The middleware closes the socket, with 1008, when the session is ended wherever it
may be; static/socket.js then says so.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response, WebSocket, WebSocketDisconnect

from scsession_secure.fastapi import CurrentOwner

from .journal import Entry
from .web import CurrentShop, page
from .your_session import SHOWN, as_shown

router = APIRouter()


@router.get("/account/live")
async def live_page(request: Request, shop: CurrentShop, owner: CurrentOwner) -> Response:
    entries = shop.journal.latest(None, owner)
    return page(
        request,
        "live.html",
        entries=[as_shown(entry) for entry in reversed(entries[-SHOWN:])],
        last=entries[-1].number if entries else 0,
    )


@router.websocket("/account/live")
async def live(websocket: WebSocket, shop: CurrentShop, owner: CurrentOwner, after: int = 0) -> None:
    await websocket.accept()
    with shop.journal.subscription() as queue:
        try:
            async with asyncio.TaskGroup() as tasks:
                missed = shop.journal.latest(None, owner, after)
                telling = tasks.create_task(tell(websocket, owner, missed, queue))
                async for _ in websocket.iter_text():
                    pass  # until the browser leaves, or the session ends
                telling.cancel()
        except* WebSocketDisconnect:
            pass  # it left while it was being told something


async def tell(websocket: WebSocket, owner: str, missed: list[Entry], queue: asyncio.Queue[Entry | None]) -> None:
    for entry in missed:
        await websocket.send_json(as_shown(entry))
    while (new := await queue.get()) is not None:
        if new.concerns(None, owner):
            await websocket.send_json(as_shown(new))
