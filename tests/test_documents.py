"""What the documents list is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scsession_secure import SIGNALS, Policy, errors
from scsession_secure.policy import PolicyOverrides

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "scsession_secure").rglob("*.py"))


def first_column(heading: str) -> set[str]:
    """The names in the first column of the tables in one section of the README."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}


def test_every_configuration_error_is_listed() -> None:
    """docs/errors.md has one row for each id that the code raises, and no other."""
    raised = set(re.findall(r'"(SC\d{3})"', SOURCES))
    listed = re.findall(r"^\| (SC\d{3}) \|", (ROOT / "docs/errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == raised


def test_every_setting_is_in_the_table() -> None:
    """The README's table of settings has each setting, and no other."""
    assert first_column("Settings") == set(PolicyOverrides.__annotations__) | {"secret_key", "store", "adopt"}


def test_every_signal_is_in_the_table() -> None:
    """The README's table of signals has each signal, and no other."""
    assert first_column("Signals") == set(SIGNALS)


@pytest.mark.parametrize(
    "name", ["absolute_timeout", "idle_timeout", "renewal_interval", "renewal_grace", "store_timeout"]
)
def test_the_default_durations_are_as_written(name: str) -> None:
    """What the table says of a default duration is what the policy has (NIST-5.2-e)."""
    units = {"h": 3600, "min": 60, "s": 1}
    written = re.search(rf"^\| `{name}` \| (\d+) (h|min|s) \|", README, re.MULTILINE)
    assert written is not None
    assert int(written[1]) * units[written[2]] == getattr(Policy(), name)


def test_every_public_error_is_explained() -> None:
    """The README tells of every error that an application may meet, but the base class."""
    missing = [name for name in errors.__all__ if name not in README and name != "SessionError"]
    assert missing == []


def headings(page: Path) -> set[str]:
    lines = page.read_text(encoding="utf-8").splitlines()
    return {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in lines
        if line.startswith("#")
    }


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files and headings that a page links to exist."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            file, _, heading = target.partition("#")
            where = page.parent / file if file else page
            assert where.exists(), target
            assert not heading or heading in headings(where), target
