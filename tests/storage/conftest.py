from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sitpayd.storage.database import Database, open_database
from tests.storage.builders import Clock, Tenant, some_tenant, some_vault


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["inline", "threads"])
async def database(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[Database]:
    """In memory without threads, and on a file through the writer thread."""
    inline = request.param == "inline"
    url = "sqlite://" if inline else f"sqlite:///{tmp_path}/sitpayd.db"
    async with open_database(url, some_vault(), inline=inline, clock=clock) as database:
        yield database


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await some_tenant(database)
