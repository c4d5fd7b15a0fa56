"""Light and dark, desktop and phone: what stands there can be read."""

from __future__ import annotations

import json

import pytest

from sitpayd.actors.phase import Phase
from tests.browser.chromium import Page, opened_page
from tests.browser.fleet import Planned, settle
from tests.browser.visitor import Visitor
from tests.support.server import Served

ONE_OF_EACH = [Planned(f"A device that is {phase.value}", phase, "network") for phase in Phase]

GROUND = "getComputedStyle(document.body).backgroundColor"

# WCAG 2.2, 1.4.3: the contrast of every text that can be seen with what is painted beneath it, as
# [text, ratio] where it is too small. Colours are painted on a canvas: the browser knows them all.
TOO_FAINT = """
(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const light = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255).map(
      (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => element === null ? [255, 255, 255]
    : over(rgba(getComputedStyle(element).backgroundColor), ground(element.parentElement));
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim() !== "");
    if (!own || !element.checkVisibility() || element.closest(":disabled")) continue;
    const below = ground(element);
    const text = over(rgba(getComputedStyle(element).color), below);
    const [a, b] = [light(text), light(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.push([element.textContent.trim().slice(0, 40), ratio.toFixed(2)]);
  }
  return JSON.stringify(faint);
})()
"""


async def faint(page: Page) -> list[object]:
    """The texts whose contrast is too small."""
    found: list[object] = json.loads(str(await page.evaluate(TOO_FAINT)))
    return found


async def is_narrow(page: Page, width: int) -> bool:
    """Whether everything fits into a window of this width."""
    await page.size(width, 800)
    return bool(
        await page.evaluate(
            "[document.documentElement, document.getElementById('grid'),"
            " document.getElementById('drawer')].every((e) => e.scrollWidth <= e.clientWidth)"
        )
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_has_the_contrast_it_needs(
    visitor: Visitor, served: Served, scheme: str
) -> None:
    actors = await settle(served.front, ONE_OF_EACH)
    page = visitor.page
    await page.prefer(scheme)
    await visitor.arrive()
    door = await faint(page)
    await visitor.sign_in()
    await visitor.choose(actors[0].handle.session_id)
    room = await faint(page)
    await page.click("[data-operation=restart]")
    question = await faint(page)

    assert (door, room, question) == ([], [], [])


async def test_faint_text_is_found(visitor: Visitor) -> None:
    await visitor.arrive()
    await visitor.page.evaluate("document.querySelector('#sign-in h1').style.color = '#ccc'")

    assert await faint(visitor.page) == [["sitpayd", "1.61"]]


async def test_dark_is_dark_for_who_prefers_it(visitor: Visitor) -> None:
    await visitor.page.prefer("dark")
    await visitor.arrive()

    assert await visitor.page.evaluate(GROUND) == "rgb(14, 18, 24)"


async def test_switch_beats_the_system_and_is_remembered(visitor: Visitor) -> None:
    await visitor.sign_in()
    assert await visitor.page.evaluate(GROUND) == "rgb(245, 246, 248)"

    await visitor.page.click("#theme")
    await visitor.page.click("#theme")
    assert await visitor.page.text("#theme") == "Dark"
    await visitor.arrive()

    assert await visitor.page.evaluate(GROUND) == "rgb(14, 18, 24)"


async def test_nothing_needs_scrolling_sideways(visitor: Visitor, served: Served) -> None:
    actors = await settle(served.front, ONE_OF_EACH)
    await visitor.sign_in()
    list_alone = [await is_narrow(visitor.page, width) for width in (1440, 1024, 390, 320)]
    await visitor.page.size(1440, 800)
    await visitor.choose(actors[0].handle.session_id)
    with_drawer = [await is_narrow(visitor.page, width) for width in (1440, 1024, 390, 320)]

    assert list_alone == [True] * 4
    assert with_drawer == [True] * 4


async def test_drawer_on_a_phone_covers_the_list_and_the_back_button_leaves_it(
    chromium: str, served: Served
) -> None:
    [actor] = await settle(served.front, [Planned("John iPhone")])
    async with opened_page(chromium, 390, 844) as page:
        visitor = Visitor(page, served.base_url)
        await visitor.sign_in()
        await visitor.choose(actor.handle.session_id)
        assert await page.evaluate("document.getElementById('list').inert") is True

        await page.evaluate("history.back()")

        await page.gone("#drawer")
        assert await page.evaluate("document.getElementById('list').inert") is False


async def test_lost_feed_is_told_over_an_open_device_on_a_phone(
    chromium: str, served: Served
) -> None:
    [actor] = await settle(served.front, [Planned("John iPhone")])
    async with opened_page(chromium, 390, 844) as page:
        visitor = Visitor(page, served.base_url)
        await visitor.sign_in()
        await visitor.choose(actor.handle.session_id)

        served.stop.set()

        await page.reads("#lost", "Live feed lost since ")
        await page.click("#lost-now")
