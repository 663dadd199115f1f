"""Register, login, logout."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from scsession_secure import Session
from scsession_secure.fastapi import CurrentSession

from .accounts import PASSWORD_MAX, PASSWORD_MIN, Account, NameTaken
from .confirming import Text, proven
from .web import CurrentShop, Shop, ended_because, form, same_site_path, see_other

router = APIRouter()

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,28}[A-Za-z0-9])?")
#: The same whether the name is unknown or the password is wrong.
NO_MATCH = "That name and password do not belong together."


# -- register --------------------------------------------------------------------------------------------------------


@router.get("/register")
async def registration_page(request: Request, session: CurrentSession, next: str | None = None) -> Response:
    if session.owner is not None:
        return see_other(same_site_path(next))
    return registration(request, next)


def registration(request: Request, next: str | None, name: str = "", errors: dict[str, str] | None = None) -> Response:
    limits = {"password_min": PASSWORD_MIN, "password_max": PASSWORD_MAX}
    return form(request, "register.html", errors, next=same_site_path(next), typed=name, **limits)


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
        await shop.registrations.attempt(request, account=name)
        try:
            account = await shop.accounts.register(name, password)
        except NameTaken:
            errors["name"] = "Somebody has that name already."
    if account is None:
        return registration(request, next, name, errors)
    await shop.passwords.trust(request, account=name)
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
    return login_form(request, shop, next, because=because)


def login_form(
    request: Request,
    shop: Shop,
    next: str | None,
    *,
    name: str = "",
    because: str | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    return form(
        request,
        "login.html",
        errors,
        next=same_site_path(next),
        typed=name,
        because=because,
        remember=shop.policy.remember,
    )


@router.post("/login")
async def login(
    request: Request,
    shop: CurrentShop,
    session: CurrentSession,
    name: Text = "",
    password: Text = "",
    next: Text = "/",
    remember: Annotated[bool, Form()] = False,
) -> Response:
    name = name.strip()
    account = await proven(request, shop, name, password)
    if account is None:
        return login_form(request, shop, next, name=name, errors={"password": NO_MATCH})
    sign_in(session, account, remember=remember)
    session.flash("success", f"Welcome back, {account.name}.")
    return see_other(same_site_path(next))


def sign_in(session: Session, account: Account, *, remember: bool = False) -> None:
    """The session gets a new ID and the old one is dead; the cart and the theme come along."""
    session.login(account.id, method="password", remember=remember)
    session["name"] = account.name


async def introduce(shop: CurrentShop, session: CurrentSession) -> None:
    """Before every page: a session that a remembered browser has begun knows who it is for, and nothing else yet."""
    if session.owner is not None and "name" not in session:
        account = await shop.accounts.get(int(session.owner))
        if account is not None:
            session["name"] = account.name


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
