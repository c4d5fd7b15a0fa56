from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sitpayd.storage.database import Database, open_database
from tests.actors.home import Home, at_home
from tests.storage.builders import Clock, Tenant, some_tenant, some_vault


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(clock: Clock) -> AsyncIterator[Database]:
    """In memory, without threads: a mock clock may jump beside it."""
    async with open_database("sqlite://", some_vault(), inline=True, clock=clock) as database:
        yield database


@pytest.fixture
async def tenant(database: Database) -> Tenant:
    return await some_tenant(database)


@pytest.fixture
async def home(database: Database, tenant: Tenant) -> Home:
    return await at_home(database, tenant)
