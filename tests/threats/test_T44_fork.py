"""T44: workers forked from one process hand out the same ids and verifiers, or the generator has a pattern."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.threats.world import COOKIE, Site, put

PROGRAM = """
import os
from scsession_secure.crypto import new_id
new_id()
for _ in range(4):
    if os.fork() == 0:
        os.write(1, (new_id() + chr(10)).encode())
        os._exit(0)
for _ in range(4):
    os.wait()
print(new_id())
"""


def test_forked_workers() -> None:
    """ASVS-11.5.1, ASVS-11.5.2, CWE-330: the system's generator, which has no state of ours to copy."""
    ids = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    assert len(ids) == len(set(ids)) == 5


async def attack(visitors: int) -> bool:
    """Whether two visitors of one site at one moment get an id or a verifier in common."""
    site = Site()
    seen = set()
    for _ in range(visitors):
        visitor = site.visitor()
        await visitor.do(put(x=1))
        seen.update(visitor.cookies[COOKIE].split(".")[1::2])
    return len(seen) != 2 * visitors


async def test_one_moment() -> None:
    """WSTG-SESS-01a, WSTG-SESS-01b, SMCS-03, FIX-05: same client, same time, and all of them are different."""
    assert not await attack(200)


async def test_with_a_generator_that_repeats_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant with a constant generator is noticed."""
    monkeypatch.setattr(os, "urandom", lambda n: b"\x07" * n)
    assert await attack(2)
