"""Register, login, logout."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request, Response

from scsession_secure import Session
from scsession_secure.fastapi import CurrentSession

from .accounts import PASSWORD_MAX, PASSWORD_MIN, Account, NameTaken
from .throttle import TooManyTries
from .web import CurrentShop, duration, ended_because, login_path, page, problem, same_site_path, see_other

router = APIRouter()

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,28}[A-Za-z0-9])?")
#: The same whether the name is unknown or the password is wrong.
NO_MATCH = "That name and password do not belong together."

Text = Annotated[str, Form(max_length=1000)]


def client_address(request: Request) -> str | None:
    """Behind a proxy this is the proxy, until the server is told to trust it (uvicorn's --forwarded-allow-ips)."""
    return request.client.host if request.client else None


# -- what was typed, for the page after the redirect -----------------------------------------------------------------


def remember_form(session: Session, name: str, errors: dict[str, str]) -> None:
    """A flash message may be any value that can be stored. Its category keeps it apart from the messages for people."""
    session.flash("form", {"name": name[:40], "errors": errors})


def take_form(session: Session) -> dict[str, Any]:
    waiting = session.get_flashed_messages(category_filter=["form"])
    return waiting[-1] if waiting else {"name": "", "errors": {}}


# -- register --------------------------------------------------------------------------------------------------------


@router.get("/register")
async def registration_page(request: Request, session: CurrentSession, next: str | None = None) -> Response:
    if session.owner is not None:
        return see_other(same_site_path(next))
    return page(
        request,
        "register.html",
        form=take_form(session),
        next=same_site_path(next),
        password_min=PASSWORD_MIN,
        password_max=PASSWORD_MAX,
    )


@router.post("/register")
async def register(
    request: Request,
    shop: CurrentShop,
    session: CurrentSession,
    name: Text = "",
    password: Text = "",
    next: Text = "/",
) -> Response:
    name = name.strip()
    errors = objections(name, password)
    account = None
    if not errors:
        try:
            shop.throttle.registration(client_address(request))
            account = await shop.accounts.register(name, password)
        except TooManyTries as error:
            return too_many(
                request, error, "Too many new accounts", "Several accounts were just made from your network."
            )
        except NameTaken:
            errors["name"] = "Somebody has that name already."
    if account is None:
        remember_form(session, name, errors)
        return see_other(f"/register?next={quote(same_site_path(next))}")
    sign_in(session, account)
    session.flash("success", f"Welcome, {account.name}. Your account is ready.")
    return see_other(same_site_path(next))


def objections(name: str, password: str) -> dict[str, str]:
    """What is wrong with a name and a password, for the form. Length counts, not which characters."""
    found = {}
    if not NAME.fullmatch(name):
        found["name"] = "Up to 30 letters and digits; dots, dashes and underscores between them."
    if len(password) < PASSWORD_MIN:
        found["password"] = f"At least {PASSWORD_MIN} characters. A few words in a row are good."
    elif len(password) > PASSWORD_MAX:
        found["password"] = f"At most {PASSWORD_MAX} characters."
    elif password.casefold() == name.casefold():
        found["password"] = "Something else than the name, please."  # noqa: S105 - words for the form
    return found


# -- login -----------------------------------------------------------------------------------------------------------


@router.get("/login")
async def login_page(
    request: Request, shop: CurrentShop, session: CurrentSession, next: str | None = None, ended: str | None = None
) -> Response:
    if session.owner is not None:
        return see_other(same_site_path(next))
    because = ended_because(session.ended_reason or ended, shop.policy)
    return page(request, "login.html", form=take_form(session), next=same_site_path(next), because=because)


@router.post("/login")
async def login(
    request: Request,
    shop: CurrentShop,
    session: CurrentSession,
    name: Text = "",
    password: Text = "",
    next: Text = "/",
) -> Response:
    address = client_address(request)
    name = name.strip()
    try:
        shop.throttle.login(name, address)
    except TooManyTries as error:
        return too_many(request, error, "Too many tries", "That was a wrong password a few times too often.")
    account = await shop.accounts.check(name, password)
    if account is None:
        remember_form(session, name, {"password": NO_MATCH})
        return see_other(login_path(same_site_path(next)))
    shop.throttle.succeeded(name, address)
    sign_in(session, account)
    session.flash("success", f"Welcome back, {account.name}.")
    return see_other(same_site_path(next))


def sign_in(session: Session, account: Account) -> None:
    """The session gets a new ID and the old one is dead; the cart and the theme come along."""
    session.login(account.id)
    session["name"] = account.name


def too_many(request: Request, error: TooManyTries, title: str, text: str) -> Response:
    return problem(
        request,
        429,
        title,
        f"{text} Please wait {duration(error.retry_after)}, then try again.",
        {"Retry-After": str(error.retry_after)},
    )


# -- logout ----------------------------------------------------------------------------------------------------------


@router.post("/logout")
async def logout(session: CurrentSession) -> Response:
    """By POST only: a link or an image on another page cannot do it."""
    theme = session.get("theme")
    session.logout()
    # From here on it is a new, anonymous session. The theme is no secret, and a page that turns white is unkind.
    if theme is not None:
        session["theme"] = theme
    session.flash("info", "You are signed out.")
    return see_other("/")
