"""What the tests stand on. Nothing in here knows the middleware from inside.

asgi      drives an application with raw ASGI messages, strictly, and can hold it at any of them (with wire, sockets)
browser   a cookie jar that behaves as browsers do, on top of asgi
chromium  a real browser
servers   real uvicorn processes
backends  real Redis, Valkey, Memcached, PostgreSQL, MariaDB, Redis Cluster and Sentinel, and their fixtures
faultproxy  a TCP proxy that breaks the network when it is told to
explore   every interleaving of a few coroutines
snippets  the code of a Markdown page
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str, remedy: str) -> NoReturn:
    """End a test whose surroundings are not there: a skip at a desk, a failure in continuous integration."""
    reason = f"{what} is missing: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true: a test that cannot run has failed)", pytrace=False)
    pytest.skip(reason)
