"""The list: what stands in it, in which order, and how it is asked."""

from __future__ import annotations

import trio

from sitpayd.actors.phase import Phase
from sitpayd.actors.status import Evidence, Proof
from tests.browser.fleet import Planned, believable, settle
from tests.browser.visitor import Visitor
from tests.support.server import Served
from tests.support.waiting import eventually

ALL_IS_WELL = Planned("All is well", phone="919800001111", partner="Vega Clinics", age_s=900)
HAS_LOST = Planned(
    "Has lost its net", Phase.WAITING, "network", "Lotus Messaging", "919800002222", age_s=8
)
IS_BANNED = Planned(
    "Is banned", Phase.BANNED, "temporary_ban", "Lotus Messaging", "919800003333", age_s=600
)
IS_NEW = Planned("Is new", Phase.UNPAIRED, None, "Orchid Retail", None)
FEW = (ALL_IS_WELL, IS_NEW, HAS_LOST, IS_BANNED)


async def test_trouble_stands_on_top(visitor: Visitor, served: Served) -> None:
    await settle(served.front, FEW)

    await visitor.sign_in()

    await visitor.sees("Is banned", "Has lost its net", "Is new", "All is well")


async def test_row_tells_state_reason_and_ages(visitor: Visitor, served: Served) -> None:
    plan = Planned("Has lost its net", Phase.WAITING, "no_answer", "Lotus Messaging", heard_s=150)
    [actor] = await settle(served.front, [plan])

    await visitor.sign_in()

    row = await visitor.page.text(f"#row-{actor.handle.session_id}")
    assert row is not None
    told = row.split("\n")
    assert told[:2] == ["waiting", "Has lost its net"]
    assert told[3:6] == ["Lotus Messaging", "…3210", "no answer"]
    assert told[6:] == ["1 h", "2 min"]


async def test_age_of_proof_goes_on(visitor: Visitor, served: Served) -> None:
    [actor] = await settle(served.front, [Planned("John iPhone", heard_s=10)])
    place = f"#row-{actor.handle.session_id} .c-proof"

    await visitor.sign_in()
    first = await visitor.page.text(place)

    async def older() -> bool:
        return await visitor.page.text(place) != first

    await eventually(older, "the proof is older")


async def test_proof_is_renewed_while_nothing_changes(visitor: Visitor, served: Served) -> None:
    [actor] = await settle(served.front, [Planned("John iPhone", heard_s=60)])
    await visitor.sign_in()
    actor.handle.proof = Proof(trio.current_time(), Evidence.PONG)

    # Rows that come into view are asked for at once, those that stay in view each 10 s.
    await visitor.search("john")

    async def young() -> bool:
        return await visitor.page.text("#rows .c-proof") in ("0 s", "1 s", "2 s", "3 s")

    await eventually(young, "the proof is young")


async def test_exact_time_is_told_on_hover(visitor: Visitor, served: Served) -> None:
    [actor] = await settle(served.front, [Planned("John iPhone")])
    known = served.front.board.get(actor.handle.session_id)
    assert known is not None

    await visitor.sign_in()

    title = await visitor.page.evaluate(
        f"document.querySelector('#row-{known.session_id} .c-since').title"
    )
    assert title == f"since {known.since:%-d %b %Y, %H:%M:%S} UTC"


async def test_ages_are_told_by_the_daemons_clock(visitor: Visitor, served: Served) -> None:
    [actor] = await settle(served.front, [Planned("John iPhone", age_s=1830)])
    await visitor.page.ask(
        "Page.addScriptToEvaluateOnNewDocument",
        source="Date.now = ((now) => () => now() - 7_200_000)(Date.now)",
    )

    await visitor.sign_in()

    since = await visitor.page.text(f"#row-{actor.handle.session_id} .c-since")
    assert since == "30 min"


async def test_counts_are_told_by_state(visitor: Visitor, served: Served) -> None:
    await settle(served.front, FEW)

    await visitor.sign_in()

    chips = [" ".join(chip.split()) for chip in await visitor.page.texts("#strip .chip")]
    assert sorted(chips) == [
        "1 banned",
        "1 connected",
        "1 need a person",
        "1 unpaired",
        "1 waiting",
        "4 all",
    ]


async def test_count_filters_and_once_more_shows_all(visitor: Visitor, served: Served) -> None:
    await settle(served.front, FEW)
    await visitor.sign_in()

    await visitor.page.click("[data-status=waiting]")
    await visitor.sees("Has lost its net")
    assert await visitor.page.text("#shown") == "1 of 4 devices"

    await visitor.page.click("[data-status=waiting]")
    await visitor.sees("Is banned", "Has lost its net", "Is new", "All is well")


async def test_search_finds_by_whatever_a_device_is_known_by(
    visitor: Visitor, served: Served
) -> None:
    actors = await settle(served.front, FEW)
    await visitor.sign_in()

    await visitor.search("lost net")
    await visitor.sees("Has lost its net")
    await visitor.search("LOTUS ban")
    await visitor.sees("Is banned")
    await visitor.search("1111")
    await visitor.sees("All is well")
    await visitor.search(actors[1].handle.session_id)
    await visitor.sees("Is new")
    await visitor.search("no such device")
    await visitor.sees()
    await visitor.page.reads("#nothing", "No device fits.")


async def test_change_moves_a_row_unless_somebody_points_at_the_list(
    visitor: Visitor, served: Served
) -> None:
    actors = await settle(served.front, FEW)
    well = actors[0]
    await visitor.sign_in()
    await visitor.sees("Is banned", "Has lost its net", "Is new", "All is well")

    await visitor.page.point(400, 300)
    well.enter(Phase.FAULTED, "crashing")
    await visitor.sees_status(well.handle.session_id, "faulted")
    assert (await visitor.names())[-1] == "All is well"
    await visitor.page.reads("#release", "Order is held")

    await visitor.page.click("#release")
    await visitor.sees("All is well", "Is banned", "Has lost its net", "Is new")


async def test_column_orders_the_list(visitor: Visitor, served: Served) -> None:
    await settle(served.front, FEW)
    await visitor.sign_in()

    await visitor.page.click("#columns .c-device button")

    await visitor.sees("All is well", "Has lost its net", "Is banned", "Is new")


async def test_new_and_removed_devices_come_and_go(visitor: Visitor, served: Served) -> None:
    [first] = await settle(served.front, [ALL_IS_WELL])
    await visitor.sign_in()
    await visitor.sees("All is well")

    await settle(served.front, [HAS_LOST])
    await visitor.sees("Has lost its net", "All is well")

    known = served.front.board.get(first.handle.session_id)
    assert known is not None
    served.front.board.remove(known.session_id, known.since)
    await visitor.sees("Has lost its net")


async def test_ten_thousand_devices_stay_quick(visitor: Visitor, served: Served) -> None:
    await settle(served.front, believable(10_000))
    await visitor.sign_in()
    assert await visitor.page.text("#shown") == "10,000 devices"

    # As long as the page is busy with a key, and with drawing what it did.
    took_ms = await visitor.page.evaluate(
        "(async () => { const search = document.getElementById('search');"
        " const began = performance.now();"
        " for (const text of ['v', 've', 'veg', 'vega', '']) { search.value = text;"
        " search.dispatchEvent(new Event('input'));"
        " await new Promise(requestAnimationFrame); }"
        " return (performance.now() - began) / 5 })()"
    )
    assert isinstance(took_ms, float | int)
    assert took_ms < 250

    rows = await visitor.page.evaluate("document.querySelectorAll('#rows .row').length")
    assert isinstance(rows, int)
    assert rows < 60
    await visitor.page.press("ArrowDown")
    await visitor.page.press("End")
    active = await visitor.page.evaluate(
        "document.querySelector('[data-active]').getAttribute('aria-rowindex')"
    )
    assert active == "10001"
