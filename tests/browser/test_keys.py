"""The page without a mouse."""

from __future__ import annotations

from sitpayd.actors.phase import Phase
from tests.browser.chromium import SHIFT
from tests.browser.fleet import Planned, settle
from tests.browser.visitor import Visitor
from tests.support.server import Served

FEW = (
    Planned("Anna", Phase.WAITING, "network", age_s=10),
    Planned("Bert", Phase.WAITING, "network", age_s=20),
    Planned("Carl", Phase.WAITING, "network", age_s=30),
)


async def test_device_is_found_opened_and_left_by_keys_alone(
    visitor: Visitor, served: Served
) -> None:
    await settle(served.front, FEW)
    page = visitor.page
    await visitor.sign_in()

    await page.press("/")
    assert await page.focused() == "search"
    await page.type("network")
    await page.press("ArrowDown")
    assert await page.focused() == "grid"
    await page.press("ArrowDown")
    await page.press("Enter")
    await page.reads("#drawer-name", "Bert")
    assert await page.focused() == "drawer"

    await page.press("Escape")
    await page.gone("#drawer")
    assert await page.focused() == "grid"
    await page.press("ArrowDown")
    await page.press("Enter")
    await page.reads("#drawer-name", "Carl")


async def test_enter_in_the_search_opens_the_first_and_escape_clears_it(
    visitor: Visitor, served: Served
) -> None:
    await settle(served.front, FEW)
    page = visitor.page
    await visitor.sign_in()

    await visitor.search("bert")
    await page.press("Enter")
    await page.reads("#drawer-name", "Bert")
    await page.press("Escape")
    await page.gone("#drawer")
    await page.press("/")
    await page.press("Escape")

    await visitor.sees("Anna", "Bert", "Carl")


async def test_question_keeps_the_focus_and_escape_does_nothing_to_the_device(
    visitor: Visitor, served: Served
) -> None:
    [actor, *_] = await settle(served.front, FEW)
    page = visitor.page
    await visitor.sign_in()
    await page.press("ArrowDown")
    await page.press("Enter")
    await page.reads("#drawer [data-operation=reconnect]", "Reconnect")
    await page.press("Tab")
    await page.press("Tab")
    assert await page.focused() == "Reconnect"

    await page.press("Enter")
    assert await page.focused() == "ask-no"
    held = "document.getElementById('ask').contains(document.activeElement)"
    await page.press("Tab")
    assert await page.focused() == "ask-yes"
    await page.press("Tab", SHIFT)
    await page.press("Tab", SHIFT)
    # Past the first thing there is only the browser itself, never what lies behind.
    assert await page.evaluate(f"{held} || document.activeElement === document.body") is True

    await page.press("Escape")
    await page.gone("#ask")
    assert await page.focused() == "Reconnect"
    assert actor.handle.mailbox.statistics().current_buffer_used == 0


async def test_focus_can_be_seen(visitor: Visitor, served: Served) -> None:
    await settle(served.front, FEW)
    page = visitor.page
    await visitor.sign_in()

    await page.press("ArrowDown")
    ring = await page.evaluate(
        "getComputedStyle(document.querySelector('.row[data-active]')).boxShadow"
    )
    assert "inset" in str(ring)
    await page.press("/")
    assert (
        await page.evaluate("getComputedStyle(document.getElementById('search')).outlineStyle")
        == "solid"
    )


async def test_grid_tells_its_rows_to_who_cannot_see_them(visitor: Visitor, served: Served) -> None:
    [first, *_] = await settle(served.front, FEW)
    page = visitor.page
    await visitor.sign_in()
    await page.press("ArrowDown")

    told = await page.evaluate(
        "(() => { const grid = document.getElementById('grid');"
        " const row = document.getElementById(grid.getAttribute('aria-activedescendant'));"
        " return [grid.getAttribute('aria-rowcount'), row.getAttribute('aria-rowindex'),"
        " row.getAttribute('role'), row.firstElementChild.getAttribute('role'), row.id] })()"
    )

    assert told == ["4", "2", "row", "gridcell", f"row-{first.handle.session_id}"]
