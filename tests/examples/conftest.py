"""A shop in memory, with a clock that the test moves and password hashes that cost nothing."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from examples.shop.accounts import Accounts, Cost
from examples.shop.app import create_app
from scsession_secure.testing import Clock
from tests.examples.visitor import PASSWORD, Visitor
from tests.harness import asgi

SECRET = secrets.token_urlsafe(48)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def shop(clock: Clock) -> AsyncIterator[FastAPI]:

    app = create_app(secret_key=SECRET, store="memory://", accounts=Accounts(cost=Cost(n=16, p=1)), clock=clock)
    async with asgi.lifespan(app):
        yield app


@pytest.fixture
async def admin(shop: FastAPI, clock: Clock) -> Visitor:
    """The browser of an administrator, who has signed in."""
    accounts: Accounts = shop.state.shop.accounts
    await accounts.register("root", PASSWORD, is_admin=True)
    admin = Visitor(shop, clock=clock)
    await admin.sign_in("root")
    return admin


@pytest.fixture
def visitor(shop: FastAPI, clock: Clock) -> Visitor:
    return Visitor(shop, clock=clock)
