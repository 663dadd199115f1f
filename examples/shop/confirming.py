"""Is it really you? The password, asked for at the login, and once more before what is delicate."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request, Response

from scsession_secure.fastapi import CurrentOwner, CurrentSession, RequireFresh, RequireLogin

from .accounts import Account
from .web import CurrentShop, Shop, form, same_site_path, see_other

router = APIRouter()

#: `dependencies=[Fresh]`: the password was typed within the last minutes. If not, `refused` leads to the page below.
Fresh = RequireFresh(timedelta(minutes=5))

Text = Annotated[str, Form(max_length=1000)]


async def proven(request: Request, shop: Shop, name: str, password: str) -> Account | None:
    """The account, if the password is right. After too many that were not, `attempt` raises LoginThrottled: `refused`
    makes a page of it."""
    attempt = await shop.passwords.attempt(request, account=name)
    account = await shop.accounts.check(name, password)
    await (attempt.succeeded() if account else attempt.failed())
    return account


async def current_account(shop: CurrentShop, session: CurrentSession, owner: CurrentOwner) -> Account:
    account = await shop.accounts.get(int(owner))
    if account is None:
        session.logout()
        raise HTTPException(401, "This account does not exist any more.")
    return account


#: `account: CurrentAccount`: of whoever is signed in; otherwise `refused` leads to the login.
CurrentAccount = Annotated[Account, Depends(current_account)]


@router.get("/sudo", dependencies=[RequireLogin])
async def sudo_page(request: Request, next: str | None = None) -> Response:
    return form(request, "sudo.html", next=same_site_path(next))


@router.post("/sudo")
async def sudo(
    request: Request,
    shop: CurrentShop,
    session: CurrentSession,
    account: CurrentAccount,
    password: Text = "",
    next: Text = "/",
) -> Response:
    if await proven(request, shop, account.name, password) is None:
        return form(request, "sudo.html", {"password": "That is not your password."}, next=same_site_path(next))
    session.reauthenticated("password")
    session.flash("success", "Thank you. Please go on.")
    return see_other(same_site_path(next))
