"""Wishes: what people want of a device, apart from where it stands. Pure.

A wish is stored before the device hears of it, and outlives lost connections, crashes and restarts.
Here each is held against the phase, and says what has to follow; machine.py does it. Three rules:
a pause ends whatever dials, but not what is just being confirmed to WhatsApp; who wants the device
logged out wants that more than a pause; and a ban that has an end is not resumed before.
"""

from __future__ import annotations

from enum import Enum, auto

from sitpayd.actors.failures import BAN_GRACE_S
from sitpayd.actors.phase import RESTING, REVIVABLE, Phase


class Step(Enum):
    """What follows from a wish."""

    STAY = auto()  # nothing, or nothing yet
    PAUSE = auto()  # end the connection, or the wait for one
    WAKE = auto()  # leave the pause or the rest
    SLEEP = auto()  # leave the rest for the pause that is in force
    REDIAL = auto()  # drop the connection and dial now
    LEAVE = auto()  # log out on this connection, or as soon as it is logged in
    DIAL_TO_LEAVE = auto()  # dial, to log out
    END = auto()  # it is let in no more: it counts as logged out


class Wishes:
    """What is wanted of one device.

    Attributes:
        paused: not to be connected.
        logging_out: to be logged out at WhatsApp, and kept.
        leaving: removed: to be logged out, and then gone.
        banned_until: clock seconds; when WhatsApp's ban is said to end, None: not known.
    """

    __slots__ = ("banned_until", "leaving", "logging_out", "paused")

    def __init__(self) -> None:
        self.paused = self.logging_out = self.leaving = False
        self.banned_until: float | None = None

    @property
    def ends(self) -> bool:
        """Whether the next login is the last one, made to log out."""
        return self.logging_out or self.leaving

    @property
    def forbids_dialling(self) -> bool:
        """Whether a lost connection is not to be followed by another."""
        return self.paused and not self.ends

    def linking(self) -> None:
        """Somebody links the device anew, which is the latest wish."""
        self.paused = self.logging_out = False

    def pause(self, phase: Phase) -> Step:
        """Connect no more."""
        self.paused = True
        idle = phase in RESTING or phase is Phase.PAUSED
        # What has just been linked is confirmed first.
        return Step.STAY if idle or phase is Phase.PAIRED or self.ends else Step.PAUSE

    def resume(self, phase: Phase, now: float) -> Step:
        """Run again."""
        self.paused = False
        banned = self.banned_until is not None and now < self.banned_until + BAN_GRACE_S
        if phase is Phase.BANNED and banned:
            return Step.STAY
        return Step.WAKE if phase is Phase.PAUSED or phase in REVIVABLE else Step.STAY

    def reconnect(self, phase: Phase) -> Step:
        """Drop the connection and dial now."""
        if self.paused:
            return Step.STAY
        if phase in (Phase.CONNECTING, Phase.CONNECTED, Phase.WAITING):
            return Step.REDIAL
        return Step.WAKE if phase is Phase.REPLACED else Step.STAY

    def reroute(self, phase: Phase) -> Step:
        """Leave the old way, in whatever state; who waits or rests has none."""
        if phase is Phase.PAIRED:
            # The registration connection ends sooner than it would have.
            return Step.PAUSE if self.forbids_dialling else Step.REDIAL
        return Step.STAY if phase is Phase.REPLACED else self.reconnect(phase)

    def revised(self, phase: Phase) -> Step:
        """The client is no longer outdated."""
        if phase is not Phase.OUTDATED:
            return Step.STAY
        return Step.SLEEP if self.paused else Step.WAKE

    def log_out(self, phase: Phase, *, linked: bool) -> Step:
        """End the login, keep the device."""
        if self.ends or not linked or phase is Phase.LOGGED_OUT:
            return Step.STAY
        self.logging_out = True
        return _leave(phase)

    def remove(self, phase: Phase, *, linked: bool) -> Step:
        """End the login, and with it the device."""
        if self.leaving:
            return Step.STAY
        self.leaving = True
        if not linked or phase in RESTING:
            return Step.END
        return Step.STAY if self.logging_out else _leave(phase)


def _leave(phase: Phase) -> Step:
    match phase:
        case Phase.CONNECTED | Phase.CONNECTING:
            return Step.LEAVE
        case Phase.WAITING | Phase.PAUSED | Phase.REPLACED:
            return Step.DIAL_TO_LEAVE
        case Phase.PAIRED:
            return Step.STAY  # the login that follows will do it
        case _:
            return Step.END
