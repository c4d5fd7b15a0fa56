from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.front import Front, Tenant, open_front
from tests.support.server import Served, open_server


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with open_front() as front:
        yield front


@pytest.fixture
async def tenant(front: Front) -> Tenant:
    """A partner with a linked device."""
    return await front.tenant()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """The front door on a real socket."""
    async with open_server() as served:
        yield served
