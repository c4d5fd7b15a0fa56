"""People: what a device does among people beside sending and receiving. Pure.

Number checks, presence and typing, read marks: each has a machine of its own, and here they stand
together for the device's machine.
"""

from __future__ import annotations

from typing import assert_never

from sitpayd.actors.checking import CheckMachine
from sitpayd.actors.commands import Command
from sitpayd.actors.events import ChecksTaken, ReadsLoaded
from sitpayd.actors.messages import CheckNumbers, SetPresence, ShowTyping, TellReads
from sitpayd.actors.presence import PresenceMachine
from sitpayd.actors.queries import Queries
from sitpayd.actors.reading import ReadingMachine

Concern = CheckNumbers | SetPresence | ShowTyping | TellReads | ChecksTaken | ReadsLoaded


class People:
    """The three machines.

    Attributes:
        checking: number checks; reading: read marks.
    """

    __slots__ = ("_presence", "checking", "reading")

    def __init__(self, queries: Queries[object]) -> None:
        self.checking = CheckMachine(queries)
        self.reading = ReadingMachine()
        self._presence = PresenceMachine()

    def handle(self, event: Concern, now: float) -> list[Command]:
        """Take what concerns people."""
        match event:
            case CheckNumbers():
                return self.checking.ask(event, now)
            case ChecksTaken():
                return self.checking.taken(event, now)
            case SetPresence():
                return self._presence.set(event, now)
            case ShowTyping():
                return self._presence.type(event, now)
            case TellReads():
                return self.reading.ring()
            case ReadsLoaded():
                return self.reading.loaded(event, now)
            case _:
                assert_never(event)

    def online(self) -> list[Command]:
        """The device is connected."""
        self.checking.online()
        self._presence.online()
        return self.reading.online()

    def leave(self) -> list[Command]:
        """We end the connection, in order."""
        return self._presence.leave()

    def offline(self) -> list[Command]:
        """The connection is gone, or is used for nothing more."""
        self._presence.offline()
        self.reading.offline()
        return self.checking.offline()

    def tick(self, now: float) -> list[Command]:
        """Do what is due."""
        return [
            *self.checking.tick(now),
            *self._presence.tick(now),
            *self.reading.tick(now),
        ]

    def deadline(self) -> float | None:
        """When to call `tick`, clock seconds."""
        machines = (self.checking, self._presence, self.reading)
        times = (machine.deadline() for machine in machines)
        return min((t for t in times if t is not None), default=None)
