from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from sitpayd.simulator.main import Simulator
from sitpayd.simulator.options import Options

# Nobody is told of a token unless a test is about tokens.
QUICK = Options(grace_s=0.05, phone_tokens=False)
Start = Callable[[Options], AbstractAsyncContextManager[Simulator]]


@asynccontextmanager
async def flawless(options: Options) -> AsyncIterator[Simulator]:
    """A simulator whose run must end without a violation; who breaks a rule clears the list."""
    async with Simulator.start(options) as running:
        yield running
        assert running.server.violations.broken == []


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with flawless(QUICK) as running:
        yield running


@pytest.fixture
def start() -> Start:
    """Starts a simulator with other options."""
    return flawless
