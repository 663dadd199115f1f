"""The application of one contender, for uvicorn: BENCH_ADAPTER names it, BENCH_PLACES says where the servers are."""

from __future__ import annotations

import json
import os

from .adapters import build

app = build(os.environ["BENCH_ADAPTER"], json.loads(os.environ["BENCH_PLACES"]))
