"""PresenceMachine: whether the device appears online, and in which chats it types. Pure.

A device is offline unless somebody asks: while it is online the phone of the account gets no push
notifications. So each wish has an end, and so has typing, for which the device goes online, since
others see it only then. Nothing of this is stored: it ends with the connection.

Source: whatsmeow presence.go; Baileys lib/Socket/chats.js.
"""

from __future__ import annotations

from typing import Final

from sitpayd.actors.commands import Command, Confirm, Respond, Send, TellPresence
from sitpayd.actors.messages import Done, NotNow, SetPresence, ShowTyping, TooManyChats
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.stanzas.presence import own_chat_state

# Nobody types for longer without a pause; phones stop to show it after about as long.
TYPING_S: Final = 25.0
# Nobody types in more chats at a time.
MAX_TYPING: Final = 8


class PresenceMachine:
    """The presence of one device."""

    __slots__ = ("_is_available", "_is_online", "_typing", "_wanted_until")

    def __init__(self) -> None:
        self._is_online = False
        self._is_available = False
        self._wanted_until: float | None = None
        self._typing: dict[Jid, float] = {}

    def online(self) -> None:
        """The device is connected."""
        self._is_online = True

    def offline(self) -> None:
        """The connection is gone, and with it what was shown."""
        self._is_online = self._is_available = False
        self._wanted_until = None
        self._typing.clear()

    def leave(self) -> list[Command]:
        """The connection is about to be ended by us: nobody is to think that we are still there."""
        commands: list[Command] = [TellPresence(available=False)] if self._is_available else []
        self._is_available = False
        return commands

    def set(self, wish: SetPresence, now: float) -> list[Command]:
        """Somebody wants the device to appear online, or offline."""
        if not self._is_online:
            return [Respond(wish.reply, NotNow())]
        if wish.available:
            self._wanted_until = now + wish.seconds
            return [*self._appear(), Confirm(wish.reply, Done(self._wanted_until))]
        self._wanted_until = None
        ends = [self._pause(chat) for chat in tuple(self._typing)]
        return [*ends, *self._disappear(), Confirm(wish.reply, Done())]

    def type(self, wish: ShowTyping, now: float) -> list[Command]:
        """Somebody types in a chat, records, or does so no more."""
        chat = wish.chat
        if not self._is_online:
            return [Respond(wish.reply, NotNow())]
        if wish.state == "paused":
            ends = [self._pause(chat)] if chat in self._typing else []
            return [*ends, *self._disappear(), Confirm(wish.reply, Done())]
        if chat not in self._typing and len(self._typing) >= MAX_TYPING:
            return [Respond(wish.reply, TooManyChats())]
        until = self._typing[chat] = now + TYPING_S
        shown = Send(own_chat_state(chat, wish.state))
        return [*self._appear(), shown, Confirm(wish.reply, Done(until))]

    def tick(self, now: float) -> list[Command]:
        """End what has come to its end."""
        over = [chat for chat, until in self._typing.items() if now >= until]
        if self._wanted_until is not None and now >= self._wanted_until:
            self._wanted_until = None
        return [*(self._pause(chat) for chat in over), *self._disappear()]

    def deadline(self) -> float | None:
        """When to call `tick`, clock seconds."""
        times = (*self._typing.values(), self._wanted_until)
        return min((t for t in times if t is not None), default=None)

    def _pause(self, chat: Jid) -> Command:
        del self._typing[chat]
        return Send(own_chat_state(chat, "paused"))

    def _appear(self) -> list[Command]:
        if self._is_available:
            return []
        self._is_available = True
        return [TellPresence(available=True)]

    def _disappear(self) -> list[Command]:
        """Go offline, unless somebody still wants it otherwise, or types."""
        if self._typing or self._wanted_until is not None:
            return []
        return self.leave()
