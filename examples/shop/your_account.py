"""The pages of an account: e-mail address, password, the devices that are signed in."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request, Response

from scsession_secure.fastapi import CurrentOwner, CurrentSession, RequireLogin

from .accounts import PASSWORD_MAX, PASSWORD_MIN
from .confirming import CurrentAccount, Fresh, Text, proven
from .signing_in import objections
from .web import CurrentShop, form, page, see_other

router = APIRouter(prefix="/account")

EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,255}")


@router.get("")
async def account_page(request: Request, account: CurrentAccount) -> Response:
    return page(request, "account.html", account=account)


# -- e-mail address: whoever has that can get at the rest, so the password is asked for first (ASVS 7.5.1) -------------


@router.get("/email", dependencies=[Fresh])
async def email_page(request: Request, account: CurrentAccount) -> Response:
    return form(request, "email.html", typed=account.email)


@router.post("/email", dependencies=[Fresh])
async def change_email(
    request: Request, shop: CurrentShop, session: CurrentSession, owner: CurrentOwner, email: Text = ""
) -> Response:
    email = email.strip()
    if not EMAIL.fullmatch(email):
        return form(request, "email.html", {"email": "That is no e-mail address."}, typed=email)
    await shop.accounts.set_email(int(owner), email)
    session.flash("success", f"Your e-mail address is now {email}.")
    return see_other("/account")


# -- password: asks for the old one itself (ASVS 6.2.3) --------------------------------------------------------------


@router.get("/password", dependencies=[RequireLogin])
async def password_page(request: Request) -> Response:
    return password_form(request)


def password_form(request: Request, errors: dict[str, str] | None = None) -> Response:
    return form(request, "password.html", errors, password_min=PASSWORD_MIN, password_max=PASSWORD_MAX)


@router.post("/password")
async def change_password(
    request: Request,
    shop: CurrentShop,
    session: CurrentSession,
    account: CurrentAccount,
    current: Text = "",
    password: Text = "",
) -> Response:
    errors = objections(account.name, password)
    if not errors and await proven(request, shop, account.name, current) is None:
        errors["current"] = "That is not your password."
    if errors:
        return password_form(request, errors)
    await shop.accounts.set_password(account.id, password)
    session.reauthenticated("password")
    await session.credentials_changed()  # whoever knew the old one is out, everywhere (ASVS 7.4.3)
    session.flash("success", "Your password is changed. You are signed out everywhere else.")
    return see_other("/account")


# -- devices (ASVS 7.5.2) --------------------------------------------------------------------------------------------


@router.get("/devices", dependencies=[RequireLogin])
async def devices_page(request: Request, shop: CurrentShop, session: CurrentSession) -> Response:
    return page(request, "devices.html", devices=await session.manager.list(), now=shop.clock())


@router.post("/devices/end", dependencies=[Fresh])
async def end_device(session: CurrentSession, id: Text) -> Response:
    if await session.manager.revoke(id):
        session.flash("success", "That device is signed out.")
    else:
        session.flash("info", "That device was signed out already.")
    return see_other("/account/devices")


@router.post("/devices/end-others", dependencies=[Fresh])
async def end_other_devices(session: CurrentSession) -> Response:
    await session.manager.revoke_others()
    session.flash("success", "You are signed out everywhere else.")
    return see_other("/account/devices")
