"""Recovery: whether a lost connection is dialled again, and when. Pure.

failures.py says what a loss means by itself. Here stands what it means after what went before: the
same reason too often in a row, a connection that was only to link the device, a second restart at
once. What a device does in its phases is machine.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from sitpayd.actors.backoff import HEALTHY_AFTER_S, Backoff
from sitpayd.actors.failures import Verdict
from sitpayd.actors.phase import RESTING, Phase


@dataclass(frozen=True, slots=True)
class _Streak:
    """How often in a row connections ended for the same reason."""

    reason: str = ""
    count: int = 0


class Recovery:
    """The losses of one device, and its next dial.

    Attributes:
        redial_at: clock seconds; None: no dial is planned.
        shared: whether the dial is put off for what keeps others away, too.
    """

    __slots__ = (
        "_backoff",
        "_connected_at",
        "_redialled_at_once",
        "_streak",
        "_was_brief",
        "redial_at",
        "shared",
    )

    def __init__(self, random: Random) -> None:
        self._backoff = Backoff(random)
        self._connected_at: float | None = None
        self._redialled_at_once = False
        self._streak = _Streak()
        self._was_brief = False
        self.redial_at: float | None = None
        self.shared = False

    def connected(self, now: float) -> None:
        """A login succeeded."""
        self._connected_at = now
        self._backoff.connected(now)

    def linking(self) -> None:
        """A round of linking begins: the restart that ends it is expected."""
        self._redialled_at_once = False

    def judge(self, verdict: Verdict, phase: Phase, now: float) -> Verdict:
        """What a verdict means for a connection that was lost in this phase."""
        if phase is Phase.PAIRING:
            verdict = _while_pairing(verdict)
        elif phase is Phase.PAIRED and verdict.phase is Phase.WAITING:
            # The end of the registration connection is expected, with 515 or without.
            verdict = Verdict(Phase.WAITING, "restart_required", at_once=True)
        return self._count(verdict, now)

    def plan(self, verdict: Verdict, now: float) -> bool:
        """Plan the next dial; True: it is due at once, without backoff."""
        if verdict.at_once and not self._redialled_at_once:
            self._redialled_at_once = True
            return True
        self.redial_at = now + self._backoff.next_delay(now, verdict.min_delay_s)
        # Connections that die after seconds say nothing of the network.
        self.shared = verdict.shared and not self._was_brief
        return False

    def hasten(self, now: float) -> None:
        """Others get through again: a dial that was put off for the same is due."""
        if self.redial_at is not None and self.shared:
            self.redial_at = now

    def stop(self) -> None:
        """The connection is gone, or the wait for the next one is over."""
        self._connected_at = self.redial_at = None
        self.shared = False

    def due(self, now: float) -> bool:
        """Whether to dial now; a yes is told once."""
        if self.redial_at is None or now < self.redial_at:
            return False
        self.redial_at = None
        return True

    def _count(self, verdict: Verdict, now: float) -> Verdict:
        """Give up on what happens again and again, where the verdict says so."""
        healthy = self._connected_at is not None and now - self._connected_at >= HEALTHY_AFTER_S
        self._was_brief = self._connected_at is not None and not healthy
        self._connected_at = None
        if healthy:
            self._redialled_at_once = False
        same = verdict.reason == self._streak.reason and not healthy
        self._streak = _Streak(verdict.reason, self._streak.count + 1 if same else 1)
        if verdict.tries is not None and self._streak.count >= verdict.tries:
            return Verdict(verdict.then, verdict.reason)
        return verdict


def _while_pairing(verdict: Verdict) -> Verdict:
    """A connection that was to link the device: nothing to come back to by itself."""
    if verdict.phase in RESTING and verdict.phase is not Phase.LOGGED_OUT:
        return verdict
    return Verdict(Phase.UNPAIRED, verdict.reason, until_s=verdict.until_s)
