"""For tests of applications that use the middleware, and of stores.

    client = TestClient(app, base_url="https://testserver")     # the cookie is Secure
    signed_in(client, "ada")
    with edit_session(client) as session:
        session["cart"] = ["apple"]

`Clock` moves time instead of waiting for it: `SCsessionMiddleware(..., clock=clock)`. `StoreContract` is the suite that
every store passes.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .client import edit_session, signed_in
from .clock import Clock

if TYPE_CHECKING:
    from .contract import StoreContract

__all__ = ["Clock", "StoreContract", "edit_session", "signed_in"]


def __getattr__(name: str) -> object:
    """`StoreContract` needs pytest, the rest does not."""
    if name == "StoreContract":
        modules = [f"{__name__}.{name}" for name in ("contract", "_contract_rows", "_contract_ends")]
        if modules[0] not in sys.modules:
            import pytest

            pytest.register_assert_rewrite(*modules)
        from .contract import StoreContract

        return StoreContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
