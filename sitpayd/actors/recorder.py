"""FlightRecorder: the last things that happened to a device, so that its history can be told.

One ring of EVENTS entries for each device, of which there may be ten thousand: packed arrays, and
details that are shared words. No content, number, token or QR text is ever noted: a detail is a
status, a code, a kind of loss, a number of seconds or the name of an exception's class.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

EVENTS: Final = 48
# Distinct details that are kept once for all devices; further ones are kept by each recorder.
MAX_SHARED_WORDS: Final = 4096
MAX_DETAIL_LEN: Final = 64


class Noted(StrEnum):
    """What can stand in a device's history."""

    PHASE = "phase"
    DIAL = "dial"
    OPENED = "opened"
    LOGIN = "login"
    LOST = "lost"
    STREAM_ERROR = "stream_error"
    FAILURE = "failure"
    BACKOFF = "backoff"
    PING_UNANSWERED = "ping_unanswered"
    OPERATION = "operation"
    CRASH = "crash"
    RESTART = "restart"
    FAULTED = "faulted"
    QR_ROUND = "qr_round"
    PAIRING_CODE = "pairing_code"
    LINKED = "linked"
    PROXY = "proxy"
    IDENTITY_CHANGED = "identity_changed"
    ODD = "odd"
    HISTORY_SYNC = "history_sync"


# Kind -> the sentence with a detail, and the one without.
_SENTENCES: Final[Mapping[Noted, tuple[str, str]]] = {
    Noted.PHASE: ("The device became {}.", "The device's status changed."),
    Noted.DIAL: ("It dialled WhatsApp: {}.", "It dialled WhatsApp."),
    Noted.OPENED: ("The connection is open: {}.", "The connection is open and encrypted."),
    Noted.LOGIN: ("WhatsApp took the login: {}.", "WhatsApp took the login."),
    Noted.LOST: ("The connection was lost: {}.", "The connection was lost."),
    Noted.STREAM_ERROR: (
        "WhatsApp ended the connection with the stream error {}.",
        "WhatsApp ended the connection with a stream error.",
    ),
    Noted.FAILURE: ("WhatsApp refused the login with code {}.", "WhatsApp refused the login."),
    Noted.BACKOFF: ("It dials again after {} s.", "It dials again later."),
    Noted.PING_UNANSWERED: ("{} pings are unanswered.", "A ping is unanswered; another went out."),
    Noted.OPERATION: ("Somebody asked for: {}.", "Somebody asked for something."),
    Noted.CRASH: ("The device's program part crashed: {}.", "The device's program part crashed."),
    Noted.RESTART: (
        "Its program part is started again after {} s.",
        "Its program part was started again.",
    ),
    Noted.FAULTED: (
        "It crashed too often in a row and is started again after {} s only.",
        "It crashed too often in a row.",
    ),
    Noted.QR_ROUND: ("A round of {} codes began.", "A round of QR codes began."),
    Noted.PAIRING_CODE: ("A pairing code was {}.", "A pairing code was shown or typed."),
    Noted.LINKED: ("A phone linked the device: {}.", "A phone linked the device."),
    Noted.HISTORY_SYNC: (
        "What the phone told about its chats could not be read: {}.",
        "What the phone told about its chats could not be read.",
    ),
    Noted.ODD: ("WhatsApp said something odd: {}.", "WhatsApp said something odd."),
    Noted.PROXY: ("Its proxy: {}.", "Its proxy was changed."),
    Noted.IDENTITY_CHANGED: (
        "Somebody it writes with has new keys: {}.",
        "Somebody it writes with has new keys.",
    ),
}

_KINDS: Final = tuple(Noted)
_NUMBERS: Final = {kind: number for number, kind in enumerate(_KINDS)}
_words: Final[dict[str, str]] = {}


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One thing that happened; at: UTC."""

    at: datetime
    kind: Noted
    detail: str | None

    @property
    def text(self) -> str:
        """It, as a sentence."""
        with_detail, without = _SENTENCES[self.kind]
        if self.detail is None:
            return without
        return with_detail.format(self.detail.replace("_", " "))


class FlightRecorder:
    """The history of one device."""

    __slots__ = ("_at", "_count", "_details", "_kinds")

    def __init__(self) -> None:
        self._at = array("d")
        self._kinds = bytearray()
        self._details: list[str | None] = []
        self._count = 0

    def note(self, kind: Noted, detail: str | None = None) -> None:
        """Remember that something happened now, in place of the oldest entry if all are used.

        Args:
            detail: a word or a number that names nobody.
        """
        # The wall clock: a history is read beside logs, and by people.
        at, number = time.time(), _NUMBERS[kind]
        detail = None if detail is None else _shared(detail[:MAX_DETAIL_LEN])
        if self._count < EVENTS:
            self._at.append(at)
            self._kinds.append(number)
            self._details.append(detail)
        else:
            place = self._count % EVENTS
            self._at[place] = at
            self._kinds[place] = number
            self._details[place] = detail
        self._count += 1

    def events(self) -> list[HistoryEvent]:
        """What is remembered, newest first."""
        newest = self._count - 1
        return [
            HistoryEvent(
                datetime.fromtimestamp(self._at[place], UTC),
                _KINDS[self._kinds[place]],
                self._details[place],
            )
            for place in (n % EVENTS for n in range(newest, newest - len(self._at), -1))
        ]


def _shared(word: str) -> str:
    known = _words.get(word)
    if known is None:
        if len(_words) >= MAX_SHARED_WORDS:
            return word
        known = _words[word] = word
    return known
