"""The example shop, as its own tests have it."""

from __future__ import annotations

from tests.examples.conftest import clock, shop, visitor

__all__ = ["clock", "shop", "visitor"]
