"""T58: an attacker gets markup into a flash message (a name, a search word) and it runs on the next page."""

from __future__ import annotations

from typing import Any

import jinja2
import pytest
from markupsafe import Markup

from scsession_secure import Session
from tests.threats.world import Site

EVIL = "<script>alert(1)</script>"
PAGE = jinja2.Environment(autoescape=True).from_string("{% for m in messages %}{{ m }}{% endfor %}")


async def attack(message: Any) -> bool:
    """Whether a template that escapes shows the message as markup."""
    site = Site()
    visitor = await site.signed_in("ada")
    await visitor.do(lambda session: session.flash("info", message), method="POST")

    def show(session: Session) -> str:
        return PAGE.render(messages=session.get_flashed_messages())

    return "<script>" in (await visitor.do(show)).value


CALLED_SAFE = Markup(EVIL)  # noqa: S704 - the mistake that is tried


@pytest.mark.parametrize("message", [EVIL, CALLED_SAFE], ids=["text", "text that was called safe"])
async def test_a_message_is_plain_text(message: Any) -> None:
    """ASVS-1.2.1: nothing comes back marked as safe, not even what went in so: templates escape it."""
    assert not await attack(message)


async def test_who_calls_it_safe_is_on_his_own() -> None:
    """What is not defended: a template that says `|safe`."""
    page = jinja2.Environment(autoescape=True).from_string("{{ m|safe }}")
    assert "<script>" in page.render(m=EVIL)
