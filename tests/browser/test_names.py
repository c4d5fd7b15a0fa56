"""What partners and phones call themselves is text on the page, whatever it looks like."""

from __future__ import annotations

import pytest

from tests.browser.chromium import ScriptError, opened_page
from tests.browser.fleet import Planned, settle
from tests.browser.visitor import Visitor
from tests.support.server import Served

HOSTILE = (
    "<script>globalThis.ran = true</script>",
    '"><img src=x onerror="globalThis.ran = true">',
    "<svg onload=globalThis.ran=true>",
    "javascript:globalThis.ran=true",
    "</title><base href=//evil.example>",
    "\N{RIGHT-TO-LEFT OVERRIDE}enohP \N{ZERO WIDTH SPACE}'; --",
)


async def test_hostile_names_are_shown_as_text(visitor: Visitor, served: Served) -> None:
    """T-29: in the list, whatever they look like."""
    await settle(served.front, [Planned(name, partner=name) for name in HOSTILE])

    await visitor.sign_in()

    shown = {name.strip() for name in HOSTILE}
    assert set(await visitor.page.texts("#rows .c-device")) == shown
    assert set(await visitor.page.texts("#rows .c-partner")) == shown
    assert await visitor.page.evaluate("globalThis.ran") is None


async def test_hostile_name_is_text_wherever_it_is_shown(visitor: Visitor, served: Served) -> None:
    """T-29: in the drawer, the question and the search. The policy has nothing to stop."""
    name = " ".join(HOSTILE)
    [actor] = await settle(served.front, [Planned(name, partner=name)])
    await visitor.sign_in()

    await visitor.choose(actor.handle.session_id)
    assert await visitor.page.text("#drawer-name") == name
    assert await visitor.page.text("[data-fact=partner]") == name
    await visitor.page.click("[data-operation=restart]")
    assert await visitor.page.text("#ask-title") == f"Restart: {name}"
    await visitor.page.click("#ask-no")
    await visitor.search(HOSTILE[0])
    assert await visitor.names() == [name]
    assert await visitor.page.evaluate("globalThis.ran") is None


async def test_policy_would_stop_a_script_that_got_in(chromium: str, served: Served) -> None:
    """T-29: the second wall stands, should the first one ever fall."""
    async with opened_page(chromium) as page:
        await page.open(f"{served.base_url}/admin/")

        for attempt in (
            "document.body.innerHTML = '<img src=x onerror=1>'",
            "document.body.setAttribute('onclick', '1')",
            "setTimeout('globalThis.ran = true')",
        ):
            with pytest.raises(ScriptError, match="This document requires 'Trusted"):
                await page.evaluate(attempt)
        await page.evaluate(
            "document.body.append(Object.assign(new Image(), {src: 'http://evil.example/'}))"
        )

        assert "policy: img-src http://evil.example/" in await page.complaints()
        assert await page.evaluate("globalThis.ran") is None
