"""A small application for the tests of the servers."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError  # uvicorn: no lifespan here
    facts = {"pid": os.getpid(), "word": os.environ.get("WORD"), "cwd": str(Path.cwd())}
    await JSONResponse(facts)(scope, receive, send)


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "SC001: no"})
