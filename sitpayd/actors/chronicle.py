"""Chronicle: what of a device's life goes into its handle, as proof of life and as history.

The actor's shell hands in what it takes, does and becomes; here stands what of it is worth keeping.
Words come from our own tables: nothing a server wrote gets into a history as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sitpayd.actors.commands import (
    AgreeOnCode,
    Command,
    Dial,
    FoundIn,
    Oddity,
    Remark,
    SaveIdentity,
    ShowCode,
    TellIdentityChanged,
)
from sitpayd.actors.events import Event, Lost, Opened, Received
from sitpayd.actors.failures import STREAM_CHILDREN, STREAM_CONFLICTS
from sitpayd.actors.messages import (
    CancelPairing,
    Logout,
    Message,
    Network,
    Pause,
    Reconnect,
    Remove,
    Resume,
    StartPairing,
)
from sitpayd.actors.phase import Phase
from sitpayd.actors.recorder import Noted
from sitpayd.actors.registry import DeviceHandle
from sitpayd.actors.status import Evidence, Proof
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import failure

_OPERATIONS: Final[Mapping[type, str]] = {
    StartPairing: "link",
    CancelPairing: "cancel_linking",
    Pause: "pause",
    Resume: "resume",
    Reconnect: "reconnect",
    Logout: "logout",
    Remove: "remove",
}
# Others are of no use to anybody but programmers: they stand in the log alone.
_ODDITIES: Final[Mapping[Oddity, str]] = {
    Oddity.OTHER_LID: "another LID of the account than before",
    Oddity.NO_MULTI_DEVICE: "the account can have no linked devices",
}
# Where it showed that somebody has new keys; of whom is not told.
_FOUND_IN: Final[Mapping[FoundIn, str]] = {
    "notification": "WhatsApp says so",
    "message": "seen in a message",
    "resend": "seen in a request for a message",
    "bundle": "seen when they were asked for",
}
_UNKNOWN: Final = "unknown"
_MAX_CODE: Final = 999


class Chronicle:
    """Keeps the proof of life and the history of one device."""

    __slots__ = ("_handle", "_note", "_pings")

    def __init__(self, handle: DeviceHandle) -> None:
        self._handle = handle
        self._note = handle.recorder.note
        self._pings = 0

    def took(self, event: Event | Message, now: float) -> None:
        """The actor takes an event or message; now: clock seconds."""
        if not isinstance(event, Network):
            operation = _OPERATIONS.get(type(event))
            if operation is not None:
                self._note(Noted.OPERATION, operation)
            return
        match event.event:
            case Received(node=node):
                # Not when it was read from the socket: an actor that takes nothing any more proves
                # nothing.
                self._handle.proof = Proof(now, self._evidence(node))
            case Opened():
                self._note(Noted.OPENED)
            case Lost(kind=kind):
                self._note(Noted.LOST, kind.value)

    def did(self, command: Command) -> None:
        """The actor has performed a command."""
        match command:
            case Dial(registration=registration):
                self._note(Noted.DIAL, "to be linked" if registration else None)
            case ShowCode():
                self._note(Noted.PAIRING_CODE, "shown")
            case AgreeOnCode():
                self._note(Noted.PAIRING_CODE, "typed on a phone")
            case SaveIdentity():
                self._note(Noted.LINKED)
            case Remark(oddity=oddity) if oddity in _ODDITIES:
                self._note(Noted.ODD, _ODDITIES[oddity])
            case TellIdentityChanged(found_in=found_in):
                self._note(Noted.IDENTITY_CHANGED, _FOUND_IN[found_in])

    def became(self, phase: Phase, reason: str | None, wait_s: float | None) -> None:
        """The device came into a phase; wait_s: seconds to its next dial, if one is planned."""
        self._note(Noted.PHASE, phase.value if reason is None else f"{phase.value}: {reason}")
        if wait_s is not None:
            self._note(Noted.BACKOFF, f"{wait_s:.0f}")

    def pinged(self, pings: int) -> None:
        """So many pings went out since the server was heard."""
        if pings > max(self._pings, 1):
            self._note(Noted.PING_UNANSWERED, None if pings - 1 == 1 else str(pings - 1))
        self._pings = pings

    def _evidence(self, node: Node) -> Evidence:
        match node.tag:
            case "ack":
                return Evidence.ACK
            case "iq" if node.text("type") in ("result", "error"):
                return Evidence.PONG
            case "iq" if node.child("pair-device") is not None:
                self._note(Noted.QR_ROUND)
            case "success":
                self._note(Noted.LOGIN)
                return Evidence.LOGIN
            case "failure":
                self._note(Noted.FAILURE, _failure(node))
            case "stream:error":
                self._note(Noted.STREAM_ERROR, _stream_error(node))
        return Evidence.STANZA


def _failure(node: Node) -> str:
    return _code(failure.parse_failure(node).code)


def _stream_error(node: Node) -> str:
    error = failure.parse_stream_error(node)
    if error.conflict is not None and error.conflict in STREAM_CONFLICTS:
        return error.conflict
    if error.child is not None and error.child in STREAM_CHILDREN:
        return error.child
    return _code(error.code)


def _code(code: int | None) -> str:
    return _UNKNOWN if code is None or not 0 < code <= _MAX_CODE else str(code)
