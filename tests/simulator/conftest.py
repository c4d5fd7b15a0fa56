from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sitpayd.simulator.main import Simulator


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator whose run must end without a violation; who breaks a rule clears the list."""
    async with Simulator.start() as running:
        yield running
        assert running.server.violations.broken == []


ALICE = "4915111111111"
BOB = "4915122222222"
