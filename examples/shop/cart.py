"""What a cart is: a list of lines under `session["cart"]`, each with its own options.

    [{"product": "field-notebook", "options": {"ruling": "dotted", "cover": "moss"}, "quantity": 2}, ...]

The functions that change it take the session's data as a plain dict and change that in place, as
`await session.transact(...)` wants it. They may be run again when another request was faster, so they do nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .catalogue import BY_SLUG, Product

MAX_LINES = 20
MAX_QUANTITY = 20

Data = dict[str, Any]


class CartError(Exception):
    """Cannot be put in the cart. The message is for the customer."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line, with what it means filled in from the catalogue."""

    key: str
    product: Product
    options: Mapping[str, str]
    quantity: int

    @property
    def cents(self) -> int:
        return self.product.cents * self.quantity


def line_key(product: str, options: Mapping[str, str]) -> str:
    """Names a line in forms: the same product with the same options is the same line."""
    return "/".join([product, *(f"{name}={value}" for name, value in sorted(options.items()))])


def lines(data: Mapping[str, Any]) -> Iterator[Line]:
    """The cart's lines. What is no longer sold is left out."""
    for stored in data.get("cart", ()):
        product = BY_SLUG.get(stored["product"])
        if product is not None:
            yield Line(line_key(product.slug, stored["options"]), product, stored["options"], stored["quantity"])


def count(data: Mapping[str, Any]) -> int:
    return sum(line.quantity for line in lines(data))


def total(data: Mapping[str, Any]) -> int:
    return sum(line.cents for line in lines(data))


def add(product: Product, options: Mapping[str, str], quantity: int) -> Callable[[Data], None]:
    """A change that adds to the line that is there, or makes one."""
    for choice in product.choices:
        if options.get(choice.name) not in choice.values:
            raise CartError(f"Please choose: {choice.label.lower()}.")
    chosen = {choice.name: options[choice.name] for choice in product.choices}

    def change(data: Data) -> None:
        cart = data.setdefault("cart", [])
        for line in cart:
            if line["product"] == product.slug and line["options"] == chosen:
                if line["quantity"] + quantity > MAX_QUANTITY:
                    raise CartError(f"{MAX_QUANTITY} of one kind is the most that we sell at once.")
                line["quantity"] += quantity
                return
        if len(cart) >= MAX_LINES:
            raise CartError("The cart is full. Please order what is in it first.")
        cart.append({"product": product.slug, "options": chosen, "quantity": quantity})

    return change


def set_quantity(key: str, quantity: int) -> Callable[[Data], str | None]:
    """A change that sets the quantity of a line, or removes it at 0, and returns the name of the product, if any."""

    def change(data: Data) -> str | None:
        for line in data.get("cart", ()):
            if line_key(line["product"], line["options"]) == key:
                if quantity:
                    line["quantity"] = quantity
                else:
                    data["cart"].remove(line)
                    if not data["cart"]:
                        del data["cart"]
                product = BY_SLUG.get(line["product"])
                return product.name if product else "That item"
        return None

    return change


def order(expected: int) -> Callable[[Data], list[Line]]:
    """A change that empties the cart and returns what was in it.

    Of two orders that arrive together, a double click, one gets the lines and the other an empty list. `expected` is
    the total that the customer saw: if another tab has changed the cart since, nothing is ordered.
    """

    def change(data: Data) -> list[Line]:
        ordered = list(lines(data))
        if ordered and sum(line.cents for line in ordered) != expected:
            raise CartError("Your cart changed in the meantime. Please look at it again before you order.")
        data.pop("cart", None)
        return ordered

    return change
