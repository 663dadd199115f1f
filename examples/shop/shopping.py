"""Catalogue, cart and checkout.

The forms carry no CSRF token: the middleware refuses every unsafe request that comes from another site, by what the
browser says about its origin.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request, Response

from scsession_secure.fastapi import CurrentSession, RequireLevel

from . import cart
from .cart import MAX_QUANTITY, CartError
from .catalogue import BY_SLUG, PRODUCTS, Product, price
from .web import page, see_other

router = APIRouter()

#: Who is only remembered may look around and fill the cart; to order, somebody has to type the password.
SignedIn = RequireLevel(1)


def known(slug: str) -> Product:
    product = BY_SLUG.get(slug)
    if product is None:
        raise HTTPException(404)
    return product


@router.get("/")
async def catalogue(request: Request) -> Response:
    return page(request, "catalogue.html", products=PRODUCTS)


@router.get("/products/{slug}")
async def show_product(request: Request, slug: str) -> Response:
    return page(request, "product.html", product=known(slug), most=MAX_QUANTITY)


@router.get("/cart")
async def show_cart(request: Request, session: CurrentSession) -> Response:
    return page(request, "cart.html", lines=list(cart.lines(session)), total=cart.total(session), most=MAX_QUANTITY)


@router.post("/cart")
async def add_to_cart(
    request: Request,
    session: CurrentSession,
    product: Annotated[str, Form()],
    quantity: Annotated[int, Form(ge=1, le=MAX_QUANTITY)] = 1,
) -> Response:
    chosen = known(product)
    form = await request.form()
    options = {choice.name: str(form.get(choice.name, "")) for choice in chosen.choices}
    try:
        # Two requests may add to the cart at once, from two tabs or a double click. An assignment would keep the last
        # writer's cart; `transact` runs the change again on what the other one left, so nothing is lost.
        await session.transact(cart.add(chosen, options, quantity))
    except CartError as error:
        session.flash("error", str(error))
        return see_other(f"/products/{chosen.slug}")
    session.flash("success", f"{chosen.name}: put in the cart{f', {quantity} of them' if quantity > 1 else ''}.")
    return see_other("/cart")


@router.post("/cart/line")
async def change_line(
    session: CurrentSession,
    line: Annotated[str, Form(max_length=300)],
    quantity: Annotated[int, Form(ge=0, le=MAX_QUANTITY)],
) -> Response:
    name = await session.transact(cart.set_quantity(line, quantity))
    if name is None:
        session.flash("info", "That line was no longer in the cart.")
    elif quantity:
        session.flash("success", f"{name}: now {quantity}.")
    else:
        session.flash("success", f"{name}: removed.")
    return see_other("/cart")


@router.get("/checkout", dependencies=[SignedIn])
async def review(request: Request, session: CurrentSession) -> Response:
    lines = list(cart.lines(session))
    if not lines:
        return see_other("/cart")
    return page(request, "checkout.html", lines=lines, total=cart.total(session))


@router.post("/checkout", dependencies=[SignedIn])
async def place_order(session: CurrentSession, total: Annotated[int, Form()]) -> Response:
    try:
        ordered = await session.transact(cart.order(total))
    except CartError as error:
        session.flash("error", str(error))
        return see_other("/cart")
    if not ordered:
        session.flash("info", "There was nothing left to order: the cart is empty.")
        return see_other("/cart")
    items = sum(line.quantity for line in ordered)
    session.flash(
        "success",
        f"Thank you! {items} {'item' if items == 1 else 'items'} for {price(total)} would now be on the way, "
        "if this were a real shop.",
    )
    return see_other("/")
