from __future__ import annotations

import os
import shutil

import pytest

from . import missing
from .servers import running


async def test_a_page_of_a_name_under_test_is_ours(page):
    with running("tests.harness.served:app", env={"WORD": "hello"}) as server:
        await page.goto(f"http://shop.test:{server.port}/")
        assert "hello" in await page.content()


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_what_is_missing_is_a_skip_at_a_desk_and_a_failure_in_ci(monkeypatch, ci, outcome):
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="apt-get install nothing"):
        missing("nothing", "apt-get install nothing")
    assert os.environ["CI"] == ci
    assert shutil.which("nothing") is None
