"""What the daemon tells of each device, held against what the server sees of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sitpayd.simulator.client import Stage
from sitpayd.simulator.server import Server

# How long the daemon may be behind the server: a stanza on its way, a busy machine, a page of
# statuses that was begun before.
BEHIND_S: Final = 20.0

CONNECTED: Final = "connected"


@dataclass(slots=True)
class _Sight:
    """How the server saw a device last, and since when; struck_until: see `Truth.struck`."""

    active: bool
    since: float
    struck_until: float = 0.0


@dataclass(slots=True)
class Truth:
    """Judge of statuses.

    Attributes:
        lies: what was told and was not so, for people to read.
        looks: how many statuses were held against the server's view.
    """

    server: Server
    lies: list[str] = field(default_factory=list)
    looks: int = 0
    _sights: dict[str, _Sight] = field(default_factory=dict)

    def struck(self, phone: str, now: float, unnoticed_s: float) -> None:
        """A device was hit; so long it may be called connected without being it, or not yet."""
        sight = self._sights[phone]
        sight.struck_until = max(sight.struck_until, now + unnoticed_s)

    def judge(self, told: Mapping[str, str], now: float) -> None:
        """Hold what was told of each device, by its number, against the server's view."""
        for phone, status in told.items():
            sight = self._look(phone, now)
            self.looks += 1
            if now - sight.since <= BEHIND_S or now <= sight.struck_until + BEHIND_S:
                continue
            if sight.active != (status == CONNECTED):
                seen = "active" if sight.active else "away"
                self.lies.append(
                    f"{phone[-4:]} was told {status}, and is {seen} for {now - sight.since:.0f} s"
                )

    def _look(self, phone: str, now: float) -> _Sight:
        device = next(self.server.phone(phone).account.companions)
        client = self.server.client(device)
        active = client is not None and client.stage is Stage.ACTIVE
        sight = self._sights.setdefault(phone, _Sight(active, now))
        if sight.active != active:
            sight.active, sight.since = active, now
        return sight
