"""The partners' programs of a simulated world: each sends, waits and repeats in its own manner.

They know only what they are answered. Every text is sent as one message and never again, unless
under the same Idempotency-Key; so what a phone shows tells which request it came from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from itertools import count
from random import Random
from typing import Final

import trio

from tests.torture.verdict import Fate
from tests.torture.witness import Breach, Witness

MAX_TRIES_WITHOUT_KEY: Final = 3
# Who was answered 202 oftener than this asks for the state instead.
MAX_REPEATS: Final = 8
_ARRIVED: Final = ("sent", "delivered", "read")
_UNDER_WAY: Final = ("accepted", "armed")


class Manner(Enum):
    """How a program sends.

    WAITING waits for each answer and repeats; BRIEF waits a second; QUEUEING takes 202 for an
    answer and looks later; IMPATIENT hangs up and asks again; CANCELING thinks better of it;
    RESIGNED takes the first refusal for the last; PLAIN knows nothing of keys and sends anew what
    was not sent.
    """

    WAITING = auto()
    BRIEF = auto()
    QUEUEING = auto()
    IMPATIENT = auto()
    CANCELING = auto()
    RESIGNED = auto()
    PLAIN = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: Mapping[str, object]


Ask = Callable[
    [str, str, Mapping[str, str], Mapping[str, str] | None, float], Awaitable[Answer | None]
]


@dataclass(slots=True)
class Message:
    """One message and what its program knows of it.

    Attributes:
        device: index of the device; to: number of the recipient.
        ids: every message id its answers named.
        is_taken_back: its cancelling was answered with success.
    """

    device: int
    to: str
    text: str
    key: str | None
    fate: Fate = Fate.OPEN
    reason: str = ""
    ids: set[str] = field(default_factory=set)
    is_taken_back: bool = False


class Program:
    """One program: it writes to one recipient, one message after the other."""

    def __init__(
        self,
        number: int,
        device: int,
        token: str,
        to: str,
        ask: Ask,
        witness: Witness,
        draws: Random,
        may_begin: Callable[[], bool],
    ) -> None:
        self.messages: list[Message] = []
        self.manner = draws.choice(list(Manner))
        self._number = number
        self._device = device
        self._base = f"/wa/{token}"
        self._to = to
        self._ask = ask
        self._witness = witness
        self._draws = draws
        self._may_begin = may_begin
        self._pause_s = draws.choice((0.0, 1.0, 20.0))
        self._length = draws.randint(1, 6)

    async def run(self) -> None:
        """Send everything until each has its final answer."""
        await trio.sleep(self._draws.uniform(0.0, 20.0))
        behind = []
        for serial in range(self._length):
            if not self._may_begin():
                break
            if self.manner is Manner.PLAIN:
                await self._send_plainly(serial)
            else:
                key = f"key-{self._number}-{serial}"
                message = self._message(f"#{self._number}.{serial}", key)
                await self._send(message)
                if self.manner is Manner.CANCELING and message.fate is Fate.OPEN:
                    await trio.sleep(self._draws.uniform(0.0, 2.0))
                    await self._cancel(message)
                if message.fate is Fate.OPEN:
                    behind.append(message)
            await trio.sleep(self._draws.uniform(0.0, self._pause_s))
        for message in behind:
            await self._look_up(message)

    def _message(self, text: str, key: str | None) -> Message:
        message = Message(self._device, self._to, text, key)
        self.messages.append(message)
        return message

    async def _send_plainly(self, serial: int) -> None:
        for attempt in range(MAX_TRIES_WITHOUT_KEY):
            message = self._message(f"#{self._number}.{serial} try {attempt}", None)
            answer = await self._post(message, {}, 90.0)
            if answer is None:
                message.fate = Fate.UNKNOWN
            elif answer.status == HTTPStatus.OK:
                message.fate = Fate.SENT
                return
            elif answer.status == HTTPStatus.ACCEPTED:
                await self._look_up(message)
                return
            else:
                self._settle(message, Fate.REFUSED, f"{answer.status} {answer.body.get('code')}")
            await self._wait(attempt)

    async def _send(self, message: Message) -> None:
        """Send until the answer is final, or 202 if that is enough for this program."""
        headers = {"idempotency-key": message.key or ""}
        if self.manner is Manner.BRIEF:
            headers["prefer"] = "wait=1"
        if self.manner in (Manner.QUEUEING, Manner.CANCELING):
            headers["prefer"] = "respond-async"
        for tries in count():
            hurry = self.manner is Manner.IMPATIENT and tries < 4
            patience = self._draws.uniform(0.01, 3.0) if hurry else 90.0
            answer = await self._post(message, headers, patience)
            if answer is not None:
                if answer.status == HTTPStatus.OK:
                    message.fate = Fate.SENT
                    return
                if answer.status == HTTPStatus.ACCEPTED:
                    if self.manner in (Manner.QUEUEING, Manner.CANCELING) or tries > MAX_REPEATS:
                        return
                elif (
                    self.manner is Manner.RESIGNED
                    or answer.status not in (429, 503)
                    or "message_id" in answer.body
                ):
                    reason = f"{answer.status} {answer.body.get('code')}"
                    self._settle(message, Fate.REFUSED, reason)
                    return
            await self._wait(tries)

    async def _post(
        self, message: Message, headers: Mapping[str, str], patience: float
    ) -> Answer | None:
        body = {"to": message.to, "message": message.text}
        answer = await self._ask("POST", f"{self._base}/send", headers, body, patience)
        if answer is not None and "message_id" in answer.body:
            message.ids.add(str(answer.body["message_id"]))
            if len(message.ids) > 1:
                self._witness.accuse(Breach.SPLIT, message.text)
        return answer

    async def _cancel(self, message: Message) -> None:
        """Take a message back, if it has not left."""
        (message_id,) = message.ids
        for tries in count():
            answer = await self._ask("DELETE", self._path(message_id), {}, None, 90.0)
            if answer is not None and answer.status not in (429, 503):
                message.is_taken_back = answer.status == HTTPStatus.OK
                return
            await self._wait(tries)

    async def _look_up(self, message: Message) -> None:
        """Ask for the state of a message until it is final."""
        (message_id,) = message.ids
        for looks in count():
            answer = await self._ask("GET", self._path(message_id), {}, None, 90.0)
            if answer is not None and answer.status not in (429, 503):
                state = str(answer.body.get("state", answer.status))
                if state not in _UNDER_WAY:
                    fate = Fate.SENT if state in _ARRIVED else Fate.REFUSED
                    fate = Fate.UNKNOWN if state == "unknown" else fate
                    self._settle(message, fate, f"{state}: {answer.body.get('reason')}")
                    return
            await self._wait(looks)

    def _path(self, message_id: str) -> str:
        return f"{self._base}/messages/{message_id}"

    def _settle(self, message: Message, fate: Fate, reason: str) -> None:
        message.fate, message.reason = fate, reason
        self._witness.note("answered", f"{message.text}: {fate} {reason}")

    async def _wait(self, tries: int) -> None:
        await trio.sleep(self._draws.uniform(0.1, min(0.5 * 2.0**tries, 10.0)))
