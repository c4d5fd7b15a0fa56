"""One Chromium for all; each test has a tab of its own, with nothing stored from any other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.browser.chromium import Page, installed, opened_page, running
from tests.browser.visitor import Visitor
from tests.end_to_end.conftest import (
    alice,
    daemon,
    http,
    mortal,
    partner,
    people,
    shared_daemon,
    simulated,
    tenant,
)
from tests.peers.install import skip_or_fail
from tests.support.server import Served, open_server

__all__ = [
    "alice",
    "daemon",
    "http",
    "mortal",
    "partner",
    "people",
    "shared_daemon",
    "simulated",
    "tenant",
]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address at which a headless Chromium is spoken to."""
    program = installed()
    if program is None:
        skip_or_fail("Chromium is not installed", demanded_by="SITPAYD_REQUIRE_CHROMIUM")
    with running(program, tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
async def page(chromium: str) -> AsyncIterator[Page]:
    """A desktop window. In the end its policy had nothing to stop, and nothing was thrown."""
    async with opened_page(chromium) as page:
        yield page
        assert await page.complaints() == []


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """The front door on a real socket, with actors that do as the test says."""
    async with open_server() as served:
        yield served


@pytest.fixture
def visitor(page: Page, served: Served) -> Visitor:
    """A person at the page of the front door."""
    return Visitor(page, served.base_url)
