"""Fixtures of the interop tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

pytest.register_assert_rewrite("tests.peers.contract")

from tests.peers.shop import shop as shop  # noqa: E402  # after the line above
from tests.peers.shop import start as start  # noqa: E402
from tests.peers.simulator import SimulatedWhatsApp  # noqa: E402


@pytest.fixture
async def whatsapp() -> AsyncGenerator[SimulatedWhatsApp]:
    """A simulator that has nothing to complain of in the end."""
    async with SimulatedWhatsApp.start() as running:
        yield running
        assert await running.complaints() == []
