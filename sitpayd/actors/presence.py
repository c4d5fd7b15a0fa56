"""PresenceMachine: whether the device appears online, and in which chats it types. Pure.

A device is offline unless somebody asks: while it is online the phone of the account gets no push
notifications. So each wish has an end, and so has typing, for which the device goes online, since
others see it only then. Nothing of this is stored: it ends with the connection. What is shown
already is not told again, and no device begins to show more in a minute than a busy person would:
WhatsApp sees all of it.

Source: whatsmeow presence.go; Baileys lib/Socket/chats.js.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from sitpayd.actors.commands import Command, Confirm, Respond, Send, TellPresence
from sitpayd.actors.messages import Done, Later, NotNow, SetPresence, ShowTyping, TooManyChats
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.stanzas.presence import TypingState, own_chat_state

# Nobody types for longer without a pause; phones stop to show it after about as long.
TYPING_S: Final = 25.0
# Typing that is renewed sooner is still shown, and not told again.
RENEW_S: Final = 5.0
# Nobody types in more chats at a time.
MAX_TYPING: Final = 8
# So often a device begins to show something in any minute; what ends is not counted.
MAX_A_MINUTE: Final = 60
MINUTE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class _Typing:
    """What a chat sees; clock seconds."""

    state: TypingState
    told_at: float
    until: float


class PresenceMachine:
    """The presence of one device."""

    __slots__ = ("_begun", "_is_available", "_is_online", "_typing", "_wanted_until")

    def __init__(self) -> None:
        self._is_online = False
        self._is_available = False
        self._wanted_until: float | None = None
        self._typing: dict[Jid, _Typing] = {}
        # When something was begun to be shown in the last minute; it outlives the connection.
        self._begun: deque[float] = deque()

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
            if not self._is_available and not self._may_begin(now):
                return [Respond(wish.reply, Later(self._begun[0] + MINUTE_S))]
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
        shown, done = self._typing.get(chat), Done(now + TYPING_S)
        if shown is not None and shown.state == wish.state and now < shown.told_at + RENEW_S:
            self._typing[chat] = _Typing(wish.state, shown.told_at, now + TYPING_S)
            return [Confirm(wish.reply, done)]
        if shown is None and len(self._typing) >= MAX_TYPING:
            return [Respond(wish.reply, TooManyChats())]
        if not self._may_begin(now):
            return [Respond(wish.reply, Later(self._begun[0] + MINUTE_S))]
        self._typing[chat] = _Typing(wish.state, now, now + TYPING_S)
        tell = Send(own_chat_state(chat, wish.state))
        return [*self._appear(), tell, Confirm(wish.reply, done)]

    def tick(self, now: float) -> list[Command]:
        """End what has come to its end."""
        over = [chat for chat, shown in self._typing.items() if now >= shown.until]
        if self._wanted_until is not None and now >= self._wanted_until:
            self._wanted_until = None
        return [*(self._pause(chat) for chat in over), *self._disappear()]

    def deadline(self) -> float | None:
        """When to call `tick`, clock seconds."""
        times = (*(shown.until for shown in self._typing.values()), self._wanted_until)
        return min((t for t in times if t is not None), default=None)

    def _may_begin(self, now: float) -> bool:
        """Whether the device may show something more; a yes counts."""
        while self._begun and self._begun[0] <= now - MINUTE_S:
            self._begun.popleft()
        if len(self._begun) >= MAX_A_MINUTE:
            return False
        self._begun.append(now)
        return True

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
