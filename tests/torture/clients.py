"""Partners' programs that do what the documents say: repeat with the same key until it is final."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

import httpx
import trio

from tests.torture.plan import Chat, Draft, Manner
from tests.torture.verdict import Fate

ANSWER_S: Final = 40.0
# Between two tries of one thing: doubled with each in a row, and half of it is left to chance.
RETRY_S: Final = 0.2
MAX_RETRY_S: Final = 1.6
# How many messages a queueing program leaves behind it unanswered.
WINDOW: Final = 8
PREFER: Final = {Manner.BRIEF: "wait=1", Manner.QUEUEING: "respond-async"}
# Repeat these: not stored, or not yet.
AGAIN: Final = (429, 503)
UNDER_WAY: Final = ("accepted", "armed")
SETTLED: Final = {
    "sent": Fate.SENT,
    "delivered": Fate.SENT,
    "read": Fate.SENT,
    "unknown": Fate.UNKNOWN,
}


@dataclass(slots=True)
class Message:
    """One message on its way.

    Attributes:
        asked_at, settled_at: clock seconds.
        ids: every message id its answers named; one, unless a key made two rows.
        status_url: where its state is told.
    """

    draft: Draft
    fate: Fate = Fate.OPEN
    reason: str = ""
    tries: int = 0
    asked_at: float = 0.0
    settled_at: float = 0.0
    ids: set[str] = field(default_factory=set)
    status_url: str = ""


class Desk:
    """All messages, and what their programs know of them.

    Attributes:
        answers: how often each status came; None stands for no answer.
        settled: how many have a final answer.
    """

    def __init__(self, drafts: list[Draft]) -> None:
        self.messages = {draft.serial: Message(draft) for draft in drafts}
        self.answers: Counter[int | None] = Counter()
        self.settled = 0
        self.on_settled: Callable[[Message], None] = lambda _: None
        self._changed = trio.Event()

    def settle(self, message: Message, fate: Fate, reason: str = "") -> None:
        """Note a final answer."""
        message.fate, message.reason = fate, reason
        message.settled_at = trio.current_time()
        self.settled += 1
        self.on_settled(message)
        self._changed.set()
        self._changed = trio.Event()

    async def until_settled(self, count: int) -> None:
        """Wait until so many messages have their final answer."""
        while self.settled < count:
            await self._changed.wait()


class Program:
    """One partner's program in one chat."""

    def __init__(
        self, http: httpx.AsyncClient, desk: Desk, chat: Chat, send_url: str, seed: int
    ) -> None:
        self._http = http
        self._desk = desk
        self._chat = chat
        self._send_url = send_url
        self._random = Random(seed)

    async def run(self) -> None:
        """Send the chat's messages, one after the other, until each has its final answer."""
        behind: list[Message] = []
        for draft in self._chat.drafts:
            message = self._desk.messages[draft.serial]
            message.asked_at = trio.current_time()
            await self._send(message)
            if message.fate is Fate.OPEN:
                behind.append(message)
            if len(behind) == WINDOW:
                await self._look_up(behind.pop(0))
        for message in behind:
            await self._look_up(message)

    async def _send(self, message: Message) -> None:
        """Send until the answer is final, or 202 if that is enough for this program."""
        manner, draft = self._chat.manner, message.draft
        headers = {"Idempotency-Key": draft.key}
        if manner in PREFER:
            headers["Prefer"] = PREFER[manner]
        body = {"to": draft.to, "message": draft.text}
        while True:
            message.tries += 1
            request = self._http.build_request("POST", self._send_url, json=body, headers=headers)
            response = await self._ask(request)
            if response is not None:
                answer = response.json()
                self._note_id(message, answer)
                if response.status_code == httpx.codes.OK:
                    self._desk.settle(message, Fate.SENT)
                    return
                if response.status_code == httpx.codes.ACCEPTED:
                    message.status_url = answer["status_url"]
                    if manner is Manner.QUEUEING:
                        return
                elif response.status_code not in AGAIN:
                    reason = f"{response.status_code} {answer.get('code')}"
                    self._desk.settle(message, Fate.REFUSED, reason)
                    return
            await self._pause(message.tries)

    async def _look_up(self, message: Message) -> None:
        """Ask for the state of a message that was answered 202, until it is final."""
        for looks in itertools.count(1):
            response = await self._ask(self._http.build_request("GET", message.status_url))
            if response is not None and response.status_code not in AGAIN:
                answer = response.json()
                self._note_id(message, answer)
                state = answer.get("state", f"{response.status_code} after 202")
                if state not in UNDER_WAY:
                    fate = SETTLED.get(state, Fate.REFUSED)
                    self._desk.settle(message, fate, f"{state}: {answer.get('reason')}")
                    return
            await self._pause(looks)

    async def _ask(self, request: httpx.Request) -> httpx.Response | None:
        try:
            response = await self._http.send(request)
        except httpx.TransportError:
            self._desk.answers[None] += 1
            return None
        self._desk.answers[response.status_code] += 1
        return response

    def _note_id(self, message: Message, answer: dict[str, object]) -> None:
        if "message_id" in answer:
            message.ids.add(str(answer["message_id"]))

    async def _pause(self, tries: int) -> None:
        longest = min(RETRY_S * 2.0 ** min(tries - 1, 16), MAX_RETRY_S)
        await trio.sleep(self._random.uniform(longest / 2, longest))
