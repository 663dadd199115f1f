"""A bank that does the application's part: what the rows of the standards ask of "the library and the application".

bank = Bank()
ada = await bank.signed_in("ada")
(await ada.post("/email", json={"email": "a@example.org"})).status     # 401 once the login is five minutes old
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from scsession_secure import Event, LoginThrottle, SCsessionMiddleware, Session, get_session, session_created
from scsession_secure.stepup import require_fresh, require_level, require_login
from scsession_secure.stores.memory import MemoryStore
from scsession_secure.testing import Clock
from tests.harness.asgi import CLIENT
from tests.harness.asgi import Response as Answer
from tests.harness.browser import CHROME, Browser
from tests.visits import COOKIE, SECRET

__all__ = ["COOKIE", "ISSUER", "MINUTE", "OTP", "PASSWORD", "REMEMBER_COOKIE", "Bank", "User", "owner_of", "sign_in"]

MINUTE: Final = 60.0
PASSWORD: Final = "correct horse battery"
OTP: Final = "314159"
ISSUER: Final = "https://id.example.org"
REMEMBER_COOKIE: Final = f"{COOKIE}_remember"

#: How old the proof may be with which somebody comes from the identity provider.
_MAX_AUTH_AGE: Final = 8 * 3600.0


@dataclass
class User:
    """password and email are the account's; `factors` are what is needed beside the password."""

    password: str = PASSWORD
    email: str = "old@example.org"
    factors: set[str] = field(default_factory=lambda: {"otp"})
    enabled: bool = True


class Bank:
    """`settings` are the middleware's."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.users = {name: User() for name in ("ada", "bob", "root")}
        self.paid: list[dict[str, Any]] = []
        self.mailed: dict[str, str] = {}
        #: The session that an identity provider's session (issuer, sid) has here.
        self.federated: dict[tuple[str, str], str] = {}
        self.throttle = LoginThrottle("5/15 minutes")
        self.codes = LoginThrottle("5/15 minutes", name="codes")
        self.app = Starlette(
            routes=[
                *(Route(path, page) for path, page in self._pages.items()),
                *(Route(path, form, methods=["POST"]) for path, form in self._forms.items()),
                WebSocketRoute("/live", self.live),
            ]
        )
        self.app.add_middleware(
            SCsessionMiddleware,
            secret_key=SECRET,
            store=self.store,
            clock=self.clock,
            **{"remember_timeout": 30 * 86_400, "passive": ("/status", "/token"), **settings},
        )
        session_created.connect(self._follow)

    @property
    def _pages(self) -> dict[str, Any]:
        return {
            "/": self.home,
            "/account": self.account,
            "/status": self.status,
            "/token": self.status,
            "/devices": self.devices,
            "/admin": self.admin,
            "/sso": self.sso_begins,
        }

    @property
    def _forms(self) -> dict[str, Any]:
        return {
            "/login": self.login,
            "/logout": self.logout,
            "/otp": self.otp,
            "/confirm": self.confirm,
            "/email": self.email,
            "/password": self.password,
            "/factor": self.factor,
            "/devices": self.end_device,
            "/approvals": self.approve,
            "/transfers": self.transfer,
            "/admin/disable": self.disable,
            "/admin/everyone": self.end_everyone,
            "/reset/ask": self.mail_a_link,
            "/reset/link": self.follow_link,
            "/reset": self.reset,
            "/sso": self.sso_login,
            "/sso/logout": self.sso_logout,
        }

    # -- visitors ------------------------------------------------------------------------------------------------

    def browser(self, user_agent: str = CHROME, client: tuple[str, int] = CLIENT) -> Browser:
        return Browser(self.app, user_agent=user_agent, client=client, clock=self.clock)

    async def signed_in(self, name: str = "ada", *, remember: bool = False, **options: Any) -> Browser:
        browser = self.browser(**options)
        answer = await sign_in(browser, name, remember=remember)
        assert answer.status == 200, answer.text
        return browser

    async def administrator(self) -> Browser:
        root = await self.signed_in("root")
        assert (await root.post("/otp", json={"code": OTP})).status == 200
        return root

    # -- logging in ----------------------------------------------------------------------------------------------

    async def home(self, request: Request) -> Response:
        """Nothing of the session is looked at."""
        return JSONResponse(None)

    async def login(self, request: Request) -> Response:
        form = await request.json()
        attempt = await self.throttle.attempt(request, account=form["name"])
        user = self.users.get(form["name"])
        if user is None or not user.enabled or form["password"] != user.password:
            await attempt.failed()
            raise HTTPException(401)
        await attempt.succeeded()
        session = get_session(request)
        session.login(form["name"], method="password", remember=form.get("remember", False))
        return JSONResponse({"new_device": not attempt.known_device})

    async def logout(self, request: Request) -> Response:
        get_session(request).logout()
        return JSONResponse(None)

    async def otp(self, request: Request) -> Response:
        """The second factor opens what needs level 2, for ten minutes."""
        owner = require_login(request)
        await self._check_code(request, owner)
        get_session(request).reauthenticated("otp", level=2, elevated_for=10 * MINUTE)
        return JSONResponse(None)

    async def confirm(self, request: Request) -> Response:
        owner = require_login(request)
        if (await request.json())["password"] != self.users[owner].password:
            raise HTTPException(403)
        get_session(request).reauthenticated("password")
        return JSONResponse(None)

    async def _check_code(self, request: Request, owner: str) -> None:
        attempt = await self.codes.attempt(request, account=owner)
        if (await request.json())["code"] != OTP:
            await attempt.failed()
            raise HTTPException(403)
        await attempt.succeeded()

    # -- the account ---------------------------------------------------------------------------------------------

    async def account(self, request: Request) -> Response:
        session = get_session(request)
        return JSONResponse(
            {
                "owner": require_login(session),
                "level": session.level,
                "methods": session.methods,
                "remembered": session.remembered,
                "sso": session.get("sso"),
                "id": session.id,
            }
        )

    async def status(self, request: Request) -> Response:
        """What a page asks in the background, to warn before the end."""
        session = get_session(request)
        return JSONResponse({"owner": session.owner, "expires_at": session.expires_at, "why": session.ended_reason})

    async def email(self, request: Request) -> Response:
        owner = require_fresh(request, 5 * MINUTE)
        self.users[owner].email = (await request.json())["email"]
        return JSONResponse(None)

    async def password(self, request: Request) -> Response:
        owner = require_fresh(request, 5 * MINUTE)
        self.users[owner].password = (await request.json())["password"]
        await get_session(request).credentials_changed()
        return JSONResponse(None)

    async def factor(self, request: Request) -> Response:
        """Enrol or remove a factor: whoever does it has just shown the one that there is."""
        owner = require_level(request, 2, max_age=5 * MINUTE)
        self.users[owner].factors ^= {(await request.json())["factor"]}
        await get_session(request).credentials_changed()
        return JSONResponse(None)

    async def devices(self, request: Request) -> Response:
        require_login(request)
        found = await get_session(request).manager.list()
        return JSONResponse([{name: getattr(device, name) for name in device.__slots__} for device in found])

    async def end_device(self, request: Request) -> Response:
        require_fresh(request, 5 * MINUTE)
        ended = await get_session(request).manager.revoke((await request.json())["id"])
        return JSONResponse(None, 200 if ended else 404)

    # -- money ---------------------------------------------------------------------------------------------------

    async def approve(self, request: Request) -> Response:
        owner = require_login(request)
        await self._check_code(request, owner)
        await get_session(request).grant("transfer", (await request.json())["transfer"])
        return JSONResponse(None)

    async def transfer(self, request: Request) -> Response:
        require_login(request)
        order = await request.json()
        if not await get_session(request).use_grant("transfer", order):
            raise HTTPException(403)
        self.paid.append(order)
        return JSONResponse(None)

    # -- administrators ------------------------------------------------------------------------------------------

    async def admin(self, request: Request) -> Response:
        return JSONResponse(self._is_administrator(request))

    async def disable(self, request: Request) -> Response:
        self._is_administrator(request)
        name = (await request.json())["name"]
        self.users[name].enabled = False
        return JSONResponse(await get_session(request).manager.revoke_all(name))

    async def end_everyone(self, request: Request) -> Response:
        self._is_administrator(request)
        await get_session(request).manager.revoke_everyone()
        return JSONResponse(None)

    @staticmethod
    def _is_administrator(request: Request) -> str:
        owner = require_level(request, 2)
        if owner != "root":
            raise HTTPException(403)
        return owner

    # -- a forgotten password ------------------------------------------------------------------------------------

    async def mail_a_link(self, request: Request) -> Response:
        self.mailed[secrets.token_urlsafe()] = (await request.json())["name"]
        return JSONResponse(None)

    async def follow_link(self, request: Request) -> Response:
        """The link is good for a reset and for nothing else: nobody is logged in."""
        session = get_session(request)
        session["reset_for"] = self.mailed.pop((await request.json())["link"])
        session.set_expiry(10 * MINUTE)
        return JSONResponse(None)

    async def reset(self, request: Request) -> Response:
        session = get_session(request)
        name = await session.consume("reset_for")
        if name is None:
            raise HTTPException(403)
        self.users[name].password = (await request.json())["password"]
        await session.manager.revoke_all(name)
        return JSONResponse(None)

    # -- an identity provider ------------------------------------------------------------------------------------

    async def sso_begins(self, request: Request) -> Response:
        get_session(request)["sso_state"] = state = secrets.token_urlsafe()
        return JSONResponse(state)

    async def sso_login(self, request: Request) -> Response:
        """The provider's claims, whose signature is right; `exp` is when its session ends."""
        session, claims = get_session(request), await request.json()
        if await session.consume("sso_state") != claims["state"]:
            raise HTTPException(403)
        proved_at = claims.get("auth_time", 0)
        if self.clock() - proved_at > _MAX_AUTH_AGE:
            raise HTTPException(401)
        session.login(f"{claims['iss']} {claims['sub']}", method="sso", authenticated_at=proved_at)
        session["sso"] = {name: claims[name] for name in ("iss", "sub", "sid", "auth_time", "exp")}
        session.set_expiry(claims["exp"] - self.clock())
        await session.save()
        self.federated[claims["iss"], claims["sid"]] = session.id or ""
        return JSONResponse(None)

    async def sso_logout(self, request: Request) -> Response:
        """The back channel: from server to server, signed, without any cookie."""
        claims = await request.json()
        id = self.federated.pop((claims["iss"], claims["sid"]), "")
        await get_session(request).manager.revoke(id, owner=f"{claims['iss']} {claims['sub']}")
        return JSONResponse(None)

    def _follow(self, sender: object, event: Event) -> None:
        """A new ID of a session that came from the provider."""
        for key, id in self.federated.items():
            if id == event.previous_id and event.session_id is not None:
                self.federated[key] = event.session_id

    # -- an open page --------------------------------------------------------------------------------------------

    async def live(self, websocket: WebSocket) -> None:
        session: Session = websocket.session  # type: ignore[assignment]  # Starlette calls it a dict
        owner = require_login(session)
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(f"{owner}: {text}")


async def sign_in(browser: Browser, name: str = "ada", password: str = PASSWORD, remember: bool = False) -> Answer:
    return await browser.post("/login", json={"name": name, "password": password, "remember": remember})


async def owner_of(browser: Browser) -> str | None:
    """Who the bank takes this browser for."""
    answer = await browser.get("/account")
    return answer.json()["owner"] if answer.status == 200 else None
