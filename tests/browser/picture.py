"""The picture of the admin page in the guide: `python -m tests.browser.picture docs/admin.png`.

A believable fleet, and one device of it open that has lost its connection; on a phone, where the
drawer covers the list, the list alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Final
from unittest.mock import patch

import trio

from sitpayd.actors.phase import Phase
from sitpayd.actors.recorder import Noted
from sitpayd.log import configure
from tests.browser.chromium import installed, opened_page, running
from tests.browser.fleet import Planned, believable, settle
from tests.browser.visitor import Visitor
from tests.support.fake_actor import FakeActor
from tests.support.server import open_server

DEVICES: Final = 320
DESKTOP: Final = 1440
HEIGHTS: Final = {DESKTOP: 900, 390: 844}
OPEN: Final = Planned(
    "Meera, front desk",
    Phase.WAITING,
    "network",
    "Lotus Messaging",
    "919876504417",
    age_s=21,
    for_s=64,
    heard_s=49,
)
TROUBLE: Final = (
    Planned("Karthik, iPhone", Phase.FAULTED, "crashing", "Vega Clinics", "919876501883", 94),
    Planned("Elif, shop 2", Phase.ACTION_REQUIRED, "passkey", "Orchid Retail", None, 812),
    Planned(
        "Ravi, sales", Phase.BANNED, "temporary_ban", "Nimbus CRM", "919876507120", 6200, 86400
    ),
    Planned("Noor, Pixel 9", Phase.REPLACED, "replaced", "Kirana Connect", "919876502964", 18_000),
    OPEN,
)
# Seconds ago, what happened, and its detail.
STORY: Final = (
    (7212, Noted.OPERATION, "resume"),
    (7212, Noted.PHASE, "connecting"),
    (7211, Noted.DIAL, None),
    (7211, Noted.OPENED, None),
    (7210, Noted.LOGIN, None),
    (7210, Noted.PHASE, "connected"),
    (31, Noted.PING_UNANSWERED, None),
    (21, Noted.LOST, "silent"),
    (21, Noted.PHASE, "waiting"),
    (21, Noted.BACKOFF, "1.7"),
    (19, Noted.DIAL, None),
    (16, Noted.LOST, "network"),
    (16, Noted.BACKOFF, "3.9"),
    (12, Noted.DIAL, None),
    (9, Noted.LOST, "network"),
    (9, Noted.BACKOFF, "52.1"),
)


def remember(actor: FakeActor) -> None:
    """Let a device have a past."""
    now = time.time()
    for ago_s, kind, detail in STORY:
        with patch("time.time", return_value=now - ago_s):
            actor.handle.recorder.note(kind, detail)


async def take(address: str, width: int, scheme: str) -> bytes:
    """Take the picture."""
    async with (
        open_server() as served,
        opened_page(address, width, HEIGHTS[width]) as page,
    ):
        await settle(served.front, believable(DEVICES))
        [*_, actor] = await settle(served.front, TROUBLE)
        remember(actor)
        await page.prefer(scheme)
        visitor = Visitor(page, served.base_url)
        await visitor.sign_in()
        if width == DESKTOP:
            await visitor.choose(actor.handle.session_id)
        return await page.picture()


def main() -> None:
    """Take it and store it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--width", type=int, choices=HEIGHTS, default=DESKTOP)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    asked = parser.parse_args()
    program = installed()
    assert program is not None, "Chromium is not installed"
    configure("error", "text")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        running(program, Path(directory)) as address,
    ):
        asked.path.write_bytes(trio.run(take, address, asked.width, asked.scheme))


if __name__ == "__main__":
    main()
