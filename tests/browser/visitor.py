"""A person in front of the admin page: where things are on it, and how they are used."""

from __future__ import annotations

from dataclasses import dataclass

from tests.browser.chromium import Page
from tests.support.front import ADMIN_KEY
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Visitor:
    """A person with an admin key, at the page of one daemon."""

    page: Page
    base_url: str
    key: str = ADMIN_KEY

    async def arrive(self) -> None:
        """Open the page."""
        await self.page.open(f"{self.base_url}/admin/")

    async def sign_in(self) -> None:
        """Open the page, give the key, and wait until the feed is live."""
        await self.arrive()
        await self.page.click("#key")
        await self.page.type(self.key)
        await self.page.press("Enter")
        await self.page.reads("#link", "Live")

    async def search(self, text: str) -> None:
        """Search for something instead of what was searched for."""
        await self.page.click("#search")
        await self.page.press("Escape")
        await self.page.type(text)

    async def names(self) -> list[str]:
        """The names of the devices in view, from top to bottom."""
        return await self.page.texts("#rows .c-device")

    async def sees(self, *names: str) -> None:
        """Wait until exactly these devices are in view, in this order."""
        seen: list[str] = []

        async def look() -> bool:
            nonlocal seen
            seen = await self.names()
            return seen == list(names)

        try:
            await eventually(look, "the devices are in view")
        except AssertionError:
            assert seen == list(names)
            raise

    async def sees_status(self, session_id: str, status: str) -> None:
        """Wait until a device's row says this status."""
        await self.page.reads(f"#row-{session_id} .c-status", status)

    async def choose(self, session_id: str) -> None:
        """Click on a device's row, and wait until its history is there."""
        await self.page.click(f"#row-{session_id} .c-device")
        await self.page.reads("[data-story=cause]", "")

    async def operate(self, operation: str) -> None:
        """Press a button of the open device and agree to what it says."""
        await self.page.click(f"[data-operation={operation}]")
        await self.page.click("#ask-yes")
