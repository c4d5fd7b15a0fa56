"""The page at a real daemon with devices at the simulator: what happens to them, and is done."""

from __future__ import annotations

import io

import pytest
import zxingcpp
from PIL import Image

from tests.browser.chromium import Page
from tests.browser.visitor import Visitor
from tests.support.daemon import ADMIN_KEY, Daemon
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People
from tests.support.waiting import eventually


@pytest.fixture
def operator(page: Page, daemon: Daemon) -> Visitor:
    """A person at the page of the daemon."""
    return Visitor(page, daemon.base_url, ADMIN_KEY)


async def looking_at(operator: Visitor, device: PartnerDevice) -> None:
    """Sign in and open a device."""
    await operator.sign_in()
    await operator.choose(device.session_id)


async def test_change_appears_without_a_reload(
    operator: Visitor, partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    await operator.sign_in()
    await operator.sees_status(device.session_id, "connected")
    await operator.page.evaluate("globalThis.isTheSamePage = true")
    # What is in view is asked for as well, each 10 s: here only the feed can tell.
    await operator.page.ask("Network.enable")
    await operator.page.ask("Network.setBlockedURLs", urls=["*devices?ids=*"])

    await people.take_offline(device)

    await operator.sees_status(device.session_id, "waiting")
    assert await operator.page.evaluate("globalThis.isTheSamePage") is True


async def test_drawer_tells_cause_next_step_and_history(
    operator: Visitor, partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    await people.take_offline(device)
    page = operator.page

    await looking_at(operator, device)

    assert await page.text("#drawer-name") == "John iPhone"
    assert await page.text("[data-story=cause]")
    assert await page.text("[data-story=next]")
    assert str(await page.text("[data-story=proof]")).startswith("WhatsApp was heard ")
    assert len(await page.texts("#drawer .events li")) > 3


async def test_qr_code_is_shown_and_scanned_until_the_row_says_connected(
    operator: Visitor, partner: Partner, people: People, alice: str
) -> None:
    device = await partner.device()
    page = operator.page
    await looking_at(operator, device)

    await page.click("#qr-begin")
    await page.reads("#drawer .left", "changes in")

    async def seen() -> str | None:
        codes = zxingcpp.read_barcodes(Image.open(io.BytesIO(await page.picture())))
        return str(codes[0].text) if codes else None

    await people.scan(alice, await eventually(seen, "a camera reads the code from the screen"))
    await operator.sees_status(device.session_id, "connected")
    await page.gone("#drawer .linking")


async def test_pause_and_resume(
    operator: Visitor, partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    await looking_at(operator, device)

    await operator.page.click("[data-operation=pause]")
    await operator.page.reads("#ask-text", "stays offline")
    await operator.page.click("#ask-yes")
    await operator.page.reads("#drawer .result", "Device paused")
    await operator.sees_status(device.session_id, "paused")

    await operator.operate("resume")
    await operator.page.reads("#drawer .result", "Device resumed")
    await operator.sees_status(device.session_id, "connected")


async def test_question_that_is_declined_changes_nothing(
    operator: Visitor, partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    await looking_at(operator, device)

    await operator.page.click("[data-operation=pause]")
    await operator.page.click("#ask-no")

    await operator.page.gone("#ask")
    assert (await device.status())["status"] == "connected"


@pytest.mark.parametrize(
    ("operation", "told"), [("restart", "Device restarted"), ("reconnect", "Device reconnects")]
)
async def test_device_comes_back_from(
    operator: Visitor, partner: Partner, people: People, alice: str, operation: str, told: str
) -> None:
    device = await partner.linked(people, alice)
    before = await device.status()
    await looking_at(operator, device)

    await operator.operate(operation)

    await operator.page.reads("#drawer .result", told)

    async def back() -> bool:
        now = await device.status()
        return now["status"] == "connected" and now["since"] != before["since"]

    await eventually(back, "the device has connected anew")
    await operator.sees_status(device.session_id, "connected")


async def test_log_out_needs_its_word(
    operator: Visitor, partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    page = operator.page
    await looking_at(operator, device)

    await page.click("[data-operation=logout]")
    await page.press("Enter")
    assert await page.evaluate("document.getElementById('ask-yes').disabled") is True
    assert (await device.status())["status"] == "connected"

    await page.type("log out")
    await page.press("Enter")
    await operator.sees_status(device.session_id, "logged out")
    await people.unlinked(alice)


async def test_refusal_is_told_in_words(
    operator: Visitor, partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    page = operator.page
    await looking_at(operator, device)
    await page.click("[data-operation=pause]")

    # Somebody else was faster.
    await partner.ask("DELETE", device.path)
    await page.click("#ask-yes")

    await page.reads("#drawer .problem", "This device was removed.")
