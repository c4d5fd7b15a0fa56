"""The door: who may come in, and what stays of the key."""

from __future__ import annotations

from tests.browser.chromium import Page
from tests.browser.fleet import Planned, settle
from tests.browser.visitor import Visitor
from tests.support.front import ADMIN_KEY
from tests.support.server import Served, open_server

STORED = "JSON.stringify([{...sessionStorage}, {...localStorage}, document.cookie])"


async def test_admin_key_opens_the_page(visitor: Visitor, served: Served) -> None:
    await settle(served.front, [Planned("John iPhone")])

    await visitor.sign_in()

    await visitor.sees("John iPhone")
    assert await visitor.page.text("#key") is None


async def test_wrong_key_is_told(visitor: Visitor) -> None:
    await visitor.arrive()
    await visitor.page.click("#key")
    await visitor.page.type("x" * 40)
    await visitor.page.click("#sign-in button")

    await visitor.page.reads("#door-problem", "This is not the admin key.")
    assert await visitor.page.text("#grid") is None
    assert await visitor.page.focused() == "key"


async def test_what_no_header_can_carry_is_told_as_a_wrong_key(visitor: Visitor) -> None:
    await visitor.arrive()
    await visitor.page.click("#key")
    await visitor.page.type("kлюч" * 10)
    await visitor.page.press("Enter")

    await visitor.page.reads("#door-problem", "This is not the admin key.")


async def test_daemon_without_an_admin_key_is_told(page: Page) -> None:
    async with open_server(admin_key=None) as served:
        visitor = Visitor(page, served.base_url)
        await visitor.arrive()
        await page.click("#key")
        await page.type(ADMIN_KEY)
        await page.press("Enter")

        await page.reads("#door-problem", "This daemon has no admin key")


async def test_daemon_that_is_gone_is_told(visitor: Visitor, served: Served) -> None:
    await visitor.arrive()
    served.stop.set()
    await served.ended.wait()
    await visitor.page.click("#key")
    await visitor.page.type(ADMIN_KEY)
    await visitor.page.press("Enter")

    await visitor.page.reads("#door-problem", "The daemon does not answer.")


async def test_key_is_stored_nowhere(visitor: Visitor) -> None:
    await visitor.sign_in()

    assert await visitor.page.evaluate(STORED) == '[{},{},""]'
    await visitor.arrive()
    await visitor.page.reads("#sign-in", "Admin key")


async def test_key_is_kept_in_the_tab_by_who_ticks_that(visitor: Visitor) -> None:
    await visitor.arrive()
    await visitor.page.click("#keep")
    await visitor.page.click("#key")
    await visitor.page.type(ADMIN_KEY)
    await visitor.page.press("Enter")
    await visitor.page.reads("#link", "Live")

    await visitor.arrive()

    await visitor.page.reads("#link", "Live")


async def test_sign_out_forgets_the_key(visitor: Visitor) -> None:
    await visitor.arrive()
    await visitor.page.click("#keep")
    await visitor.page.click("#key")
    await visitor.page.type(ADMIN_KEY)
    await visitor.page.press("Enter")
    await visitor.page.reads("#link", "Live")

    await visitor.page.click("#sign-out")

    await visitor.page.reads("#sign-in", "Admin key")
    assert await visitor.page.evaluate(STORED) == '[{},{},""]'


async def test_key_stands_in_no_address(visitor: Visitor) -> None:
    """T-39: neither the page's own address nor what it asks for holds the key."""
    await visitor.sign_in()

    asked = await visitor.page.evaluate(
        "JSON.stringify([location.href, ...performance.getEntriesByType('resource')"
        ".map((entry) => entry.name)])"
    )

    assert isinstance(asked, str)
    assert "/admin/tickets" in asked
    assert ADMIN_KEY not in asked
