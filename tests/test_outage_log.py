"""What the log says while a store is down."""

from __future__ import annotations

import logging

import pytest

from tests.guarded import Site


async def test_an_outage_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture):
    """The first request that fails is a warning with the reason; the next hundred say nothing new; half a minute later
    it is told again."""
    where = Site()
    browser = await where.signed_in()
    where.store.down = {"get"}
    with caplog.at_level(logging.WARNING, "scsession_secure"):
        for _ in range(100):
            assert (await browser.get("/read")).status == 503
        assert [record.getMessage() for record in caplog.records] == ["store failed (load): get is down"]
        where.clock.move(31)
        await browser.get("/read")
    assert [record.getMessage() for record in caplog.records if "load" in record.getMessage()] == [
        "store failed (load): get is down"
    ] * 2
