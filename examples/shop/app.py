"""Puts the shop together.

Two ways to run it:

    python -m examples.shop                                    a demonstration, with a secret of its own
    SECRET_KEY=... uvicorn examples.shop.app:app               the way a server runs it (https, strict policy)
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from scsession_secure import Policy, Refuse, SCsessionMiddleware
from scsession_secure.stores import Store

from . import admin, confirming, live, shopping, signing_in, your_account, your_session
from .accounts import Accounts
from .journal import Journal
from .web import (
    HERE,
    SECURITY_HEADERS,
    SecurityHeaders,
    Shop,
    address_of,
    bare_problem,
    duration,
    login_path,
    problem,
    see_other,
    wants_html,
)

__all__ = ["create_app"]


def create_app(
    *,
    secret_key: str,
    store: str | Store = "sqlite:///sessions.db",
    accounts: Accounts | str | Path = "accounts.db",
    policy: Policy | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """`policy` is for https unless you say otherwise; `clock` is for tests, which move it."""
    # Who ticks a box at the login is remembered; ten devices are enough for anybody, and the eleventh ends the first.
    policy = replace(policy or Policy(), remember_timeout=timedelta(days=30), max_sessions_per_owner=10)
    shop = Shop(
        policy=policy,
        accounts=accounts if isinstance(accounts, Accounts) else Accounts(accounts),
        journal=Journal(),
        clock=clock,
    )
    # No pages of API documentation: they load scripts from elsewhere, and this shop loads nothing from elsewhere.
    app = FastAPI(
        title="Quire",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=running,
        dependencies=[Depends(signing_in.introduce)],
    )
    app.state.shop = shop
    shop.journal.listen_to(app)

    app.add_middleware(
        SCsessionMiddleware,
        secret_key=secret_key,
        store=store,
        policy=policy,
        passive=[your_session.STREAM_PATH],
        exclude=["/static", "/favicon.svg"],
        on_refuse=refused,
        clock=clock,
    )
    # Added last, so it is outermost: a refusal gets these headers too.
    app.add_middleware(SecurityHeaders)

    for part in (shopping, signing_in, confirming, your_account, your_session, live, admin):
        app.include_router(part.router)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    app.add_api_route("/favicon.svg", favicon, methods=["GET"])
    app.exception_handler(HTTPException)(not_possible)
    app.exception_handler(RequestValidationError)(not_understood)
    app.exception_handler(Exception)(failed)
    return app


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[None]:
    shop: Shop = app.state.shop
    yield
    shop.journal.close()
    shop.accounts.close()


async def favicon() -> Response:
    return FileResponse(HERE / "static" / "favicon.svg", media_type="image/svg+xml")


# -- what went wrong, as pages ---------------------------------------------------------------------------------------

REFUSALS = {
    403: (
        "Not from here",
        "This form was sent from another site, so nothing was done. Please use the pages of this shop.",
    ),
    409: (
        "Your session moved on",
        "It ended or changed elsewhere while this page was open. Please load the page again, or sign in.",
    ),
    429: ("A little slower", "That was a lot in a short time. Please wait a moment, then try again."),
    503: ("Back in a moment", "We cannot reach your session at the moment. Nothing is lost; please try again shortly."),
}


def refused(request: Request, refusal: Refuse) -> Response | None:
    """The middleware's refusals: a page for people, and its JSON for programs."""
    if not wants_html(request):
        return None
    if refusal.code == "login_required":
        return see_other(login_path(address_of(request)))
    if refusal.code == "insufficient_user_authentication":  # signed in, but too long ago, or only remembered
        return see_other(f"/sudo?next={quote(address_of(request))}")
    if refusal.code == "login_throttled":
        wait = duration(int(refusal.headers["Retry-After"]))
        words = ("Too many tries", f"That was a few times too often. Please wait {wait}, then try again.")
    elif refusal.status in REFUSALS:
        words = REFUSALS[refusal.status]
    else:
        return None
    return bare_problem(refusal.status, *words)


async def not_possible(request: Request, error: HTTPException) -> Response:
    if not wants_html(request):
        return await http_exception_handler(request, error)
    title, text = {
        404: ("Nothing here", "There is no such page. It may have been moved, or never was."),
        405: ("Not like that", "This address works from a form of the shop only."),
    }.get(error.status_code, ("That did not work", str(error.detail)))
    return problem(request, error.status_code, title, text, dict(error.headers or {}))


async def not_understood(request: Request, error: RequestValidationError) -> Response:
    if not wants_html(request):
        return await request_validation_exception_handler(request, error)
    return problem(
        request, 422, "That did not work", "The form was not filled in as it should be. Please go back and check it."
    )


async def failed(request: Request, error: Exception) -> Response:
    # This one runs outside of our middlewares, so it brings the headers itself.
    return bare_problem(500, "Our mistake", "Something broke on our side, and has been written down.", SECURITY_HEADERS)


# For `uvicorn examples.shop.app:app`.
if secret_key := os.environ.get("SECRET_KEY"):
    app = create_app(secret_key=secret_key, store=os.environ.get("SESSION_STORE", "sqlite:///sessions.db"))
