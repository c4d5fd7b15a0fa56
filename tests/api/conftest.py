from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.front import Front, Tenant, open_front


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with open_front() as front:
        yield front


@pytest.fixture
async def tenant(front: Front) -> Tenant:
    """A partner with a linked device."""
    return await front.tenant()
