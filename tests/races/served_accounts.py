"""The application of the races of accounts as uvicorn serves it, on a store that workers share.

STORE     the store's URL
CAP       how many sessions an owner may have
ON_LIMIT  what happens at one more
"""

from __future__ import annotations

import os
from typing import Any

from scsession_secure import SCsessionMiddleware
from tests.races.accounts import ACCOUNT_ACTIONS
from tests.races.world import ACTIONS, SECRET, application

ACTIONS.update(ACCOUNT_ACTIONS)
_limit: Any = os.environ["ON_LIMIT"]
app = SCsessionMiddleware(
    application,
    secret_key=SECRET,
    store=os.environ["STORE"],
    rate_limits=None,
    store_timeout=30,
    max_sessions_per_owner=int(os.environ["CAP"]),
    on_limit=_limit,
)
