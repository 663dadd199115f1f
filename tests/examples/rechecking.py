"""The shop as one of several processes, which look every second for sessions that another has ended."""

from __future__ import annotations

import os
from dataclasses import replace

from examples.shop.app import create_app
from scsession_secure import Policy

app = create_app(secret_key=os.environ["SECRET_KEY"], policy=replace(Policy.development(), websocket_recheck=1))
