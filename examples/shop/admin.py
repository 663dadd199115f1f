"""The administrator's page: where one customer is signed in, and the ways to end it (ASVS 7.4.5)."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from scsession_secure.fastapi import CurrentSession

from .accounts import Account
from .confirming import CurrentAccount, Fresh, Text
from .web import CurrentShop, Shop, page, see_other


async def administrator(account: CurrentAccount) -> None:
    """Asked of the table at every request, not of the session: a right that was taken away is gone at once."""
    if not account.is_admin:
        raise HTTPException(404)  # nobody else needs to know that there is such a page


router = APIRouter(prefix="/admin", dependencies=[Depends(administrator), Fresh])


@router.get("")
async def admin_page(
    request: Request, shop: CurrentShop, session: CurrentSession, account: CurrentAccount, name: str | None = None
) -> Response:
    customer = None if name is None else await shop.accounts.find(name)
    if customer == account:
        return see_other("/account/devices")
    devices = [] if customer is None else await session.manager.list(customer.id)
    return page(request, "admin.html", asked=name or "", customer=customer, devices=devices, now=shop.clock())


@router.post("/end")
async def end_device(shop: CurrentShop, session: CurrentSession, name: Text, id: Text) -> Response:
    customer = await known(shop, name)
    if await session.manager.revoke(id, owner=customer.id):
        session.flash("success", f"{customer.name} is signed out on that device.")
    else:
        session.flash("info", "That device was signed out already.")
    return see_other(f"/admin?name={quote(customer.name)}")


@router.post("/end-all")
async def end_all_devices(shop: CurrentShop, session: CurrentSession, name: Text) -> Response:
    customer = await known(shop, name)
    await session.manager.revoke_all(customer.id)
    session.flash("success", f"{customer.name} is signed out everywhere.")
    return see_other(f"/admin?name={quote(customer.name)}")


@router.post("/end-everyone")
async def end_everyone(session: CurrentSession) -> Response:
    await session.manager.revoke_everyone()
    session.logout()
    session.flash("success", "Everybody is signed out, and so are you.")
    return see_other("/")


async def known(shop: Shop, name: str) -> Account:
    account = await shop.accounts.find(name)
    if account is None:
        raise HTTPException(404)
    return account
