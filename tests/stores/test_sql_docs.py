"""docs/sql.md: its Alembic example, carried out, and its tables, compared with the code."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config

from scsession_secure.record import Row
from scsession_secure.stores._sql_engine import ATTEMPTS
from scsession_secure.stores._sql_url import OPTIONS
from scsession_secure.stores.sql import SQLStore, sessions
from tests.stores.sql_support import DATABASES, row

DOCS = (Path(__file__).parents[2] / "docs" / "sql.md").read_text()


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def config_of(folder: Path, url: str) -> Config:
    """A project with the env.py of the docs."""
    (env,) = re.findall(r"```python\n# migrations/env\.py\n(.*?)```", DOCS, re.DOTALL)
    migrations = folder / "migrations"
    (migrations / "versions").mkdir(parents=True)
    (migrations / "env.py").write_text(env)
    (migrations / "script.py.mako").write_text(SCRIPT)
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "os")
    driver = "postgresql+asyncpg" if url.startswith("postgresql") else "mysql+asyncmy"
    config.set_main_option("sqlalchemy.url", f"{driver}://{url.partition('://')[2]}")
    return config


#: The parts of Alembic's own template that a migration needs.
SCRIPT = """from alembic import op
import sqlalchemy as sa
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade():
    ${upgrades if upgrades else "pass"}


def downgrade():
    ${downgrades if downgrades else "pass"}
"""


def test_alembic(url: str, tmp_path: Path) -> None:
    """The migration that Alembic writes makes the very table: nothing is left to change, and the store works."""
    config = config_of(tmp_path, url)
    command.revision(config, message="sessions", autogenerate=True)
    command.upgrade(config, "head")
    command.check(config)

    async def use() -> Any:
        store = SQLStore.from_url(url, timeout=5)
        assert await store.diagnose() == []
        assert await store.create("id", row(owner="ann")) is True
        found = await store.owned_by("ann")
        await store.close()
        return found

    assert list(asyncio.run(use())) == ["id"]
    command.downgrade(config, "base")


def test_what_create_tables_makes(url: str, tmp_path: Path) -> None:
    """Alembic finds nothing to change in the table that create_tables() has made."""

    async def make() -> None:
        store = SQLStore.from_url(url, timeout=5)
        await store.create_tables()
        await store.create("id", row())
        assert isinstance(await store.get("id"), Row)
        await store.close()

    asyncio.run(make())
    config = config_of(tmp_path, url)
    command.stamp(config, "head")
    command.check(config)


def test_the_tables_of_the_docs() -> None:
    """The docs name every option and every column, and the number of attempts."""
    named = set(re.findall(r"`(\w+)", "\n".join(re.findall(r"^\| (.*?) \|", DOCS, re.MULTILINE))))
    assert named == set(OPTIONS) | set(sessions.columns.keys())
    assert f"up to {ATTEMPTS} times" in DOCS
