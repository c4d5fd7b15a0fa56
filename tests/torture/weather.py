"""The weather of a simulated world: what goes wrong, when and how often, drawn from the seed.

Each family of faults is on in some worlds and off in others: a world in which everything fails gets
nowhere, and one in which only a single thing fails finds what hides behind it. After the storm
nothing fails any more, and everything has to come to an end.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Final

from sitpayd.simulator.accounts import Device
from sitpayd.simulator.faults import Fault, FaultKind, Faults
from tests.torture.chance import Chance

# Codes with a reaction of their own; 400 stands for all that fail at once.
NACKS: Final = (400, 421, 429, 463, 479, 500, 503)
# A family of faults is on in so many of a hundred worlds.
_ON: Final = 35
_LOSSES: Final = (
    FaultKind.LOSE,
    FaultKind.LOSE_ACK,
    FaultKind.REPEAT_ACK,
    FaultKind.DELAY_ACK,
    FaultKind.DROP_BEFORE,
    FaultKind.DROP_AFTER,
)
_QUESTIONS: Final = (
    FaultKind.LOSE_IQ,
    FaultKind.REFUSE_IQ,
    FaultKind.REFUSE_BUNDLE,
    FaultKind.REFUSE_DEVICES,
    FaultKind.LOSE_NOTIFICATION,
    FaultKind.NO_OFFLINE_END,
)
_FRAMES: Final = (FaultKind.GARBLE, FaultKind.SPLIT, FaultKind.JOIN)
_PHONES: Final = (FaultKind.SILENT, FaultKind.REPEAT_MESSAGE)


class Dialling(Enum):
    """How a dial goes."""

    GOOD = auto()
    NO_NAME = auto()
    REFUSED = auto()
    SILENT = auto()
    UNAVAILABLE = auto()


class Blow(Enum):
    """What happens at one moment.

    The daemon: CRASH. A wire: CUT, HOLE, STUCK. The server to a device: RESTART (503), AGAIN (515).
    The disk, for a while: FULL, BUSY, SLOW. The wall clock: SKEW. A person: REPLY, READ, UNLINK,
    LINK (another device, that is never online).
    """

    CRASH = auto()
    CUT = auto()
    HOLE = auto()
    STUCK = auto()
    RESTART = auto()
    AGAIN = auto()
    FULL = auto()
    BUSY = auto()
    SLOW = auto()
    SKEW = auto()
    REPLY = auto()
    READ = auto()
    UNLINK = auto()
    LINK = auto()


@dataclass(frozen=True, slots=True)
class Stroke:
    """A blow at its time, seconds from the beginning."""

    at: float
    blow: Blow


class Weather(Faults):
    """What fails; also the server's own list of faults, which it draws as they are asked for.

    Attributes:
        is_stormy: false: nothing fails.
        storm_s: how long it storms.
        strokes: what happens when, in order.
        forgetful: phones may lose their sessions.
        takes_repeat: the server is about to judge a message it has taken before, or one that a
            recipient asked to have again.
    """

    def __init__(self, chance: Chance) -> None:
        super().__init__()
        draws = chance.draws("weather")
        self.is_stormy = True
        self.takes_repeat = False
        self.storm_s = draws.uniform(20.0, 180.0)
        self.forgetful = _is_on(draws, 20)
        self.rates: dict[FaultKind, float] = {}
        for family, percent, most in (
            (_LOSSES, 2 * _ON, 0.06),
            ((FaultKind.NACK,), _ON, 0.15),
            (_QUESTIONS, _ON, 0.08),
            (_FRAMES, _ON // 2, 0.01),
            (_PHONES, _ON, 0.1),
        ):
            if _is_on(draws, percent):
                self.rates |= {kind: draws.uniform(0.0, most) for kind in family}
        if self.forgetful:
            self.rates[FaultKind.FORGET] = draws.uniform(0.02, 0.2)
        self._slowest_s = draws.choice((0.03, 0.1, 0.5))
        self._bad_dials = draws.uniform(0.0, 0.3) if _is_on(draws, _ON) else 0.0
        self.strokes = sorted(self._draw_strokes(draws), key=lambda stroke: stroke.at)
        self._faults = chance.draws("faults")
        self._network = chance.draws("network")
        self.disk = chance.draws("disk")

    def _draw_strokes(self, draws: Random) -> list[Stroke]:
        strokes = []
        for blow, percent, most in (
            (Blow.CRASH, 60, 6),
            (Blow.CUT, _ON, 8),
            (Blow.HOLE, _ON, 3),
            (Blow.STUCK, _ON // 2, 2),
            (Blow.RESTART, _ON, 3),
            (Blow.AGAIN, _ON // 2, 3),
            (Blow.FULL, _ON // 2, 3),
            (Blow.BUSY, _ON // 2, 3),
            (Blow.SLOW, _ON // 2, 3),
            (Blow.SKEW, _ON // 2, 3),
            (Blow.REPLY, 60, 8),
            (Blow.READ, 60, 8),
            (Blow.UNLINK, 5, 1),
            (Blow.LINK, _ON, 3),
        ):
            if _is_on(draws, percent):
                times = draws.randint(1, most)
                strokes += [Stroke(draws.uniform(0.0, self.storm_s), blow) for _ in range(times)]
        return strokes

    def calm(self) -> None:
        """Let nothing go wrong any more."""
        self.is_stormy = False

    # --- the server ---

    def take(self, device: Device, *kinds: FaultKind) -> Fault | None:
        """Draw whether one of these goes wrong now."""
        if not self.is_stormy:
            return None
        for kind in kinds:
            rate = self.rates.get(kind, 0.0)
            if not rate or self._faults.random() >= rate:
                continue
            if kind in (FaultKind.NACK, FaultKind.LOSE) and self.takes_repeat:
                # No server takes a message and then refuses its repetition; and what a recipient
                # asked for again is promised only as far as the connection lasts.
                continue
            code = self._faults.choice(NACKS) if kind is FaultKind.NACK else 500
            return Fault(kind, code=code, seconds=self._faults.uniform(0.1, 90.0))
        return None

    # --- the network ---

    def latency(self) -> float:
        """How long a frame takes."""
        return self._network.uniform(0.001, self._slowest_s if self.is_stormy else 0.03)

    def dialling(self) -> Dialling:
        """How the next dial goes."""
        if not self.is_stormy or self._network.random() >= self._bad_dials:
            return Dialling.GOOD
        return self._network.choice([way for way in Dialling if way is not Dialling.GOOD])


def _is_on(draws: Random, percent: int) -> bool:
    return draws.randrange(100) < percent
