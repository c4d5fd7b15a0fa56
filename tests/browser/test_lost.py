"""The page when the daemon is gone, silent or back: it never passes off old news as new."""

from __future__ import annotations

import signal

import httpx
import pytest

from tests.browser.chromium import Page
from tests.browser.visitor import Visitor
from tests.support.daemon import ADMIN_KEY, Daemon
from tests.support.partner import Partner
from tests.support.waiting import eventually

IS_GREY = "getComputedStyle(document.getElementById('grid')).filter === 'grayscale(1)'"
# The bound is 25 s; a test does not sit it out.
LATER = "Date.now = ((now) => () => now() + 24_000)(Date.now)"


@pytest.fixture
async def operator(page: Page, mortal: Daemon, tenant: Partner) -> Visitor:
    """A person who sees one device, live."""
    await tenant.device("John iPhone")
    operator = Visitor(page, mortal.base_url, ADMIN_KEY)
    await operator.sign_in()
    await operator.sees("John iPhone")
    return operator


async def test_lost_feed_is_told_and_comes_back_by_itself(
    operator: Visitor, mortal: Daemon, tenant: Partner, http: httpx.AsyncClient
) -> None:
    page = operator.page
    assert await page.text("#lost") is None

    await mortal.kill()

    await page.reads("#lost", "Live feed lost since ")
    assert await page.evaluate("/since \\d\\d:\\d\\d:\\d\\d\\./.test(lost.innerText)") is True
    assert await page.text("#link") == "Not live"
    assert await page.evaluate(IS_GREY) is True
    await page.reads(".caption", "as of ")
    assert await page.evaluate("document.title") == "Not live · sitpayd"
    await page.reads("#lost-next", "Trying ")

    await mortal.start(http)
    await tenant.device("Came meanwhile")

    await page.click("#lost-now")
    await page.reads("#link", "Live")
    await page.gone("#lost")
    assert await page.evaluate(IS_GREY) is False
    await page.reads("#shown", "2 devices")


async def test_silent_daemon_is_noticed_within_25_seconds(
    operator: Visitor, mortal: Daemon
) -> None:
    """T-40 seen from the other side: a line that is open and says nothing is not live."""
    mortal.send(signal.SIGSTOP)
    await operator.page.evaluate(LATER)

    await operator.page.reads("#lost", "Live feed lost since ")

    mortal.send(signal.SIGCONT)
    await operator.page.reads("#link", "Live")


async def test_feed_goes_on_where_it_was_cut(
    operator: Visitor, mortal: Daemon, tenant: Partner
) -> None:
    page = operator.page
    await page.ask("Network.enable")
    await page.evaluate(LATER)  # as when a lid was closed for a while

    async def resumed() -> bool:
        return any("resumed" in frame for frame in page.told("Network.webSocketFrameReceived"))

    await eventually(resumed, "the feed is resumed")
    await tenant.device("Came afterwards")

    await page.reads("#shown", "2 devices")
    [opened] = page.told("Network.webSocketCreated")
    assert "after=" in opened
    frames = page.told("Network.webSocketFrameReceived")
    assert not any("snapshot" in frame for frame in frames)
