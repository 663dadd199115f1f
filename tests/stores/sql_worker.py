"""Another process that uses the same table: `python -m tests.stores.sql_worker write|consume URL ID FROM TO`."""

from __future__ import annotations

import asyncio
import sys

from scsession_secure.record import Patch
from scsession_secure.stores import open_store

TAKE = Patch(drop=["d:coupon"], expect={"d:coupon": b"1"})


async def main(work: str, url: str, id: str, first: str, last: str) -> None:
    """Print how many changes were answered with a version."""
    store = open_store(url, timeout=30)
    patches = [Patch(put={f"d:{n}": b"1"}) if work == "write" else TAKE for n in range(int(first), int(last))]
    answers = await asyncio.gather(*(store.update(id, patch) for patch in patches))
    sys.stdout.write(str(sum(isinstance(answer, int) for answer in answers)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
