"""Routing: bytes by which WhatsApp's edge finds the servers of an account. Pure.

The server announces them after a login; they stand in the prologue of the next connection. They are
never needed: a connection that was begun with them and did not come to a login is tried without.

Source: Baileys lib/Utils/noise-handler.js; whatsmeow leaves them out.
"""

from __future__ import annotations

from typing import Final

from sitpayd.actors.commands import Command, SaveFact
from sitpayd.actors.events import LossKind
from sitpayd.storage.records import ROUTING_FACT

# Longer ones are none that a server needs; a bound for what is stored.
MAX_LEN: Final = 1024
# The server never saw the prologue of a connection that ended so.
_NOT_REACHED: Final = frozenset(
    {
        LossKind.DNS,
        LossKind.FILES,
        LossKind.HTTP,
        LossKind.PROXY_REFUSED,
        LossKind.PROXY_UNREACHABLE,
    }
)


class Routing:
    """The routing bytes of one device."""

    __slots__ = ("_info", "_is_on_trial")

    def __init__(self) -> None:
        self._info: bytes | None = None
        self._is_on_trial = False

    def restore(self, info: bytes | None) -> None:
        """Take over what an earlier life was told."""
        self._info = info

    def forget(self) -> None:
        """They belong to a login that is over; what is stored goes with its keys."""
        self._info = None

    def dialled(self) -> bytes | None:
        """What goes into the prologue of this dial; None: nothing."""
        self._is_on_trial = self._info is not None
        return self._info

    def proved(self) -> None:
        """The login went well."""
        self._is_on_trial = False

    def lost(self, kind: LossKind) -> None:
        """The connection ended in this way."""
        if kind in _NOT_REACHED:
            self._is_on_trial = False

    def failed(self) -> list[Command]:
        """The connection is given up: if they were on trial, go without from now on."""
        if not self._is_on_trial:
            return []
        self._info, self._is_on_trial = None, False
        return [SaveFact(ROUTING_FACT, None)]

    def announced(self, info: bytes) -> list[Command]:
        """The server tells the bytes for the next connection."""
        if info == self._info or not 0 < len(info) <= MAX_LEN:
            return []
        self._info = info
        return [SaveFact(ROUTING_FACT, info)]
