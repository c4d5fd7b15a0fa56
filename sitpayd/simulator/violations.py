"""Violations: what clients did that the protocol does not allow.

A server can prove each of them; a run of tests ends with none. Requests that are legal but not
simulated stand in a list of their own.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_MAX_KEPT: Final = 10_000
_log = logging.getLogger(__name__)


class Kind(StrEnum):
    """What kind of rule was broken."""

    NOISE = "noise"
    REGISTRATION = "registration"
    PAIRING = "pairing"
    LOGIN = "login"
    STANZA = "stanza"
    ADDRESS = "address"
    PREKEYS = "prekeys"
    UNANSWERED = "unanswered"
    UNEXPECTED = "unexpected"
    EARLY = "early"
    SILENT = "silent"
    TOKEN = "token"
    FANOUT = "fanout"
    DUPLICATE = "duplicate"
    IDENTITY = "identity"
    SIGNAL = "signal"
    UNDECRYPTABLE = "undecryptable"
    CONTENT = "content"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule.

    Attributes:
        at: UTC seconds.
        device: who broke it; a peer address before it is known.
    """

    at: float
    device: str
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A legal request that is not simulated; it was refused.

    Attributes:
        at: UTC seconds.
    """

    at: float
    device: str
    text: str


class Violations:
    """The lists of one server; the oldest entries go when there are too many."""

    def __init__(self) -> None:
        self._broken: deque[Violation] = deque(maxlen=_MAX_KEPT)
        self._unsupported: deque[Unsupported] = deque(maxlen=_MAX_KEPT)

    def record(self, device: object, kind: Kind, text: str) -> None:
        """Note a broken rule. The text holds ids, never keys or message texts."""
        _log.warning("violation device=%s kind=%s %s", device, kind.value, text)
        self._broken.append(Violation(time.time(), str(device), kind, text))

    def unsupported(self, device: object, text: str) -> None:
        """Note a request that is not simulated."""
        _log.info("unsupported device=%s %s", device, text)
        self._unsupported.append(Unsupported(time.time(), str(device), text))

    @property
    def broken(self) -> list[Violation]:
        """Every violation, oldest first."""
        return list(self._broken)

    @property
    def refused(self) -> list[Unsupported]:
        """Every request that is not simulated, oldest first."""
        return list(self._unsupported)

    def clear(self) -> None:
        """Forget all, for a test that broke a rule on purpose."""
        self._broken.clear()
        self._unsupported.clear()
