"""Sightings: who appears online, who is told of it, and what people see of others' typing.

An account is online as long as one of its devices says so and is connected. It is told to whoever
asked for it and is online as well, and so are chat states: of a device that is offline nobody sees
that it types. Nothing is kept for those who are away; what a person could have seen is remembered
for tests alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import presence as presences

from .accounts import Account, Device

_MAX_KEPT: Final = 1_000

Send = Callable[[Device, Node], None]


@dataclass(frozen=True, slots=True)
class ChatStateSeen:
    """A chat state as a person's devices saw it.

    Attributes:
        seq: counts up by one with each that this person saw, from 1.
        peer: digits of who typed.
        state: "composing", "recording" or "paused".
        at: UTC seconds.
    """

    seq: int
    peer: str
    state: str
    at: float


class Sightings:
    """What the accounts of one server show each other.

    Args:
        send: hands a stanza to a device that is connected; others do not get it.
    """

    def __init__(self, accounts: Callable[[Jid], Account | None], send: Send) -> None:
        self._account_of = accounts
        self._send = send
        self._online: set[Account] = set()
        # Who wants to know of an account, and under which address it was asked.
        self._subscribers: dict[Account, dict[Device, Jid]] = {}
        self._names: dict[Account, str] = {}
        self._seen: dict[Account, deque[ChatStateSeen]] = {}
        self._seen_count: dict[Account, int] = {}

    def is_online(self, account: Account) -> bool:
        """Whether others see it online."""
        return account in self._online

    def name_of(self, account: Account) -> str | None:
        """The name that came with its last presence; None: none did."""
        return self._names.get(account)

    def seen_by(self, account: Account) -> list[ChatStateSeen]:
        """The chat states a person saw, oldest first."""
        return list(self._seen.get(account, ()))

    def presence(self, device: Device, node: Node) -> tuple[Node, ...]:
        """Take a presence; return what the device asked for.

        Raises:
            RemoteProtocolError: If it is malformed, or tells in so many words whether we are
                online, and no name.
        """
        value = presences.parse_presence(node)
        if value.to is not None:
            return self._subscribe(device, value.to.bare, wanted=value.kind == "subscribe")
        if value.name:
            self._names[device.account] = value.name
        elif "type" in node.attrs:
            # Unmodified Baileys sends an empty one now and then.
            raise RemoteProtocolError("a presence without a name")
        self.show(device, available=value.kind == "available")
        return ()

    def show(self, device: Device, *, available: bool) -> None:
        """Let a device appear online, or offline."""
        device.is_available = available
        self.look(device.account)

    def look(self, account: Account) -> None:
        """Tell who wants to know whether an account is online, if that has changed."""
        online = any(
            device.is_available and device.link is not None for device in account.devices.values()
        )
        if online is self.is_online(account):
            return
        if online:
            self._online.add(account)
        else:
            self._online.discard(account)
        for device, address in tuple(self._subscribers.get(account, {}).items()):
            if device.is_available:
                self._send(device, presences.presence(address, available=online))

    def chat_state(self, device: Device, node: Node) -> None:
        """Hand a chat state to whoever is online on the other side.

        Raises:
            RemoteProtocolError: If it is malformed.
        """
        shown = presences.parse_chat_state(node)
        account = self._account_of(shown.to)
        if account is None or not device.is_available:
            return
        count = self._seen_count[account] = self._seen_count.get(account, 0) + 1
        seen = self._seen.setdefault(account, deque(maxlen=_MAX_KEPT))
        seen.append(ChatStateSeen(count, device.account.number, shown.state, time.time()))
        sender = device.address(shown.to.server).bare
        for other in account.companions:
            if other.is_available:
                self._send(other, presences.chat_state(node, sender))

    def forget(self, device: Device) -> None:
        """A device is gone for good."""
        for subscribers in self._subscribers.values():
            subscribers.pop(device, None)

    def _subscribe(self, device: Device, address: Jid, *, wanted: bool) -> tuple[Node, ...]:
        account = self._account_of(address)
        if account is None:
            return ()
        subscribers = self._subscribers.setdefault(account, {})
        if not wanted:
            subscribers.pop(device, None)
            return ()
        subscribers[device] = address
        return (presences.presence(address, available=self.is_online(account)),)
