"""What the pages share: rendering, redirects, headers, and times in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import jinja2
from fastapi import Depends
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scsession_secure import LoginThrottle, Policy, get_session

from . import cart
from .accounts import Accounts
from .catalogue import price
from .journal import Journal

HERE = Path(__file__).parent
THEMES = ("auto", "light", "dark")


@dataclass(frozen=True)
class Shop:
    """What the pages work with. One for each application, at `app.state.shop`."""

    policy: Policy
    accounts: Accounts
    journal: Journal
    #: Passwords that are typed: a few slips on one account; and one password tried on many. A household or an office
    #: fits in.
    passwords: LoginThrottle = field(
        default_factory=lambda: LoginThrottle("5/15 minutes", network_limit="30/15 minutes", name="passwords")
    )
    #: New accounts, all from one network.
    registrations: LoginThrottle = field(
        default_factory=lambda: LoginThrottle("10/hour", network_limit="10/hour", name="registrations")
    )
    clock: Callable[[], float] = time.time


def shop_of(connection: HTTPConnection) -> Shop:
    shop: Shop = connection.app.state.shop
    return shop


CurrentShop = Annotated[Shop, Depends(shop_of)]


# -- pages -----------------------------------------------------------------------------------------------------------


def page(
    request: Request,
    name: str,
    status: int = 200,
    headers: dict[str, str] | None = None,
    **context: Any,
) -> Response:
    """A rendered template. Everything in it is escaped."""
    return templates.TemplateResponse(request, name, context, status_code=status, headers=headers)


def form(request: Request, name: str, errors: dict[str, str] | None = None, **context: Any) -> Response:
    """A page with a form, and what was wrong with it. It is no message for the page after a redirect: whose session has
    just ended has nowhere to keep one, and whoever guesses passwords is not to fill the store."""
    return page(request, name, 422 if errors else 200, errors=errors or {}, **context)


def see_other(path: str) -> Response:
    """The end of every form that worked: the browser fetches `path`, and a reload sends nothing twice."""
    return RedirectResponse(path, status_code=303)


def problem(request: Request, status: int, title: str, text: str, headers: dict[str, str] | None = None) -> Response:
    """A page for what did not work, in the frame of the other pages."""
    return page(request, "problem.html", status, headers, frame="base.html", title=title, text=text)


def bare_problem(status: int, title: str, text: str, headers: dict[str, str] | None = None) -> Response:
    """The same without the session, for where there is none: a request that was refused, or a handler that failed."""
    template = environment.get_template("problem.html")
    return HTMLResponse(template.render(frame="frame.html", title=title, text=text), status, headers)


def wants_html(connection: HTTPConnection) -> bool:
    return "text/html" in connection.headers.get("accept", "")


def _layout(request: Request) -> dict[str, Any]:
    """What the frame around every page shows."""
    session = get_session(request)
    shop = shop_of(request)
    return {
        "session": session,
        "signed_in_as": session.get("name", "you") if session.owner else None,
        "cart_count": cart.count(session),
        "theme": session.get("theme", "auto"),
        "here": request.url.path,
        "back": address_of(request),
        "ended": ended_because(session.ended_reason, shop.policy),
    }


def address_of(request: Request) -> str:
    """The page that the visitor is on. What was not fetched by GET cannot be fetched again: that is the page with the
    form, which the browser tells (see Referrer-Policy)."""
    if request.method == "GET":
        return same_site_path(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
    try:
        at = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return "/"
    return same_site_path(at._replace(scheme="", netloc="", fragment="").geturl())


def same_site_path(target: str | None, otherwise: str = "/") -> str:
    """`target` if it is a path on this site, else `otherwise`: nobody sends our customers elsewhere after the login.

    Browsers read "\\" as "/" and leave out tabs and line ends, so "//host" has many spellings. A path that needs one of
    those characters writes them in percent-encoding.
    """
    if target is None or len(target) > 500 or not target.startswith("/") or target.startswith("//"):
        return otherwise
    if "\\" in target or any(character <= " " or character == "\x7f" for character in target):
        return otherwise
    parts = urlsplit(target)
    return otherwise if parts.scheme or parts.netloc else target


def login_path(then: str, ended: str | None = None) -> str:
    """The login page, which goes on to `then`. `ended` travels in the address: the response that redirects is also the
    one that deletes the ended session's cookie, so that the login page itself knows of none."""
    return f"/login?next={quote(then)}" + (f"&ended={quote(ended)}" if ended else "")


# -- words -----------------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """ "30 minutes", "8 hours", "less than a minute"."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        amount = round(seconds / size)
        if amount > 1 or (amount == 1 and seconds >= size * 0.97):
            return f"{amount} {unit}{'' if amount == 1 else 's'}"
    return "less than a minute"


def ended_because(reason: str | None, policy: Policy) -> str | None:
    """Completes "Your session ended ...". None for what nobody needs to be told."""
    return {
        "idle": f"after {duration(policy.idle)} without activity",
        "absolute": f"because {duration(policy.absolute)} had passed since it began",
        "revoked": "because it was ended from another device, or by us",
        "evicted": "because you signed in on many other devices",
        "theft": "because its cookie turned up in a second place",
        "fingerprint": "because it was suddenly used from another browser",
        "credential_change": "because your password was changed",
    }.get(reason or "")


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.filters |= {"price": price, "duration": duration, "moment": moment}
environment.globals["themes"] = THEMES
templates = Jinja2Templates(env=environment, context_processors=[_layout])


# -- headers ---------------------------------------------------------------------------------------------------------

SECURITY_HEADERS = {
    # Everything comes from this server, and no script or style stands in a page: what is injected there does not run.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": browsers then send "Origin: null" with forms, which is what a cross-site form looks like.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class SecurityHeaders:
    """Puts the headers on every response. Plain ASGI, so that event streams pass as they come."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)
