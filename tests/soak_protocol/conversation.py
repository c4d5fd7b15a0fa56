"""The conversation: everybody writes to everybody, each author one message after the other.

Partners' programs do what the documents say: they repeat with the same Idempotency-Key until there
is an answer, and some of them do not wait for it.
"""

from __future__ import annotations

from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final

import httpx
import trio

from tests.soak_protocol.cast import Cast, Home, Ours, Simulated
from tests.soak_protocol.judge import Message, Person
from tests.torture.verdict import Fate

REQUEST_S: Final = 90.0
PREFERENCES: Final = (None, None, "wait=1", "wait=40", "respond-async")
# Of ten requests so many hang up before there is an answer, and repeat.
IMPATIENT_OF_TEN: Final = 2
HANGS_UP_S: Final = (0.005, 1.5)
AGAIN: Final = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
PAUSE_S: Final = (0.1, 0.8)
# How many messages a program leaves behind it without a final state.
WINDOW: Final = 6
UNDER_WAY: Final = ("accepted", "armed")
ARRIVED: Final = ("sent", "delivered", "read")
BAILEYS_SENDS_S: Final = 30.0


@dataclass(slots=True)
class Talk:
    """What all authors share.

    Attributes:
        mean_s: seconds between two messages of one author.
        is_over: nobody begins a new message.
        answers: how often each status was answered; None: no answer.
    """

    cast: Cast
    seed: int
    mean_s: float
    is_over: bool = False
    answers: Counter[int | None] = field(default_factory=Counter)
    tries: int = 0

    def begin(self, nursery: trio.Nursery) -> None:
        """Let everybody write; the tasks end when it is over."""
        for index, phone in enumerate(self.cast.phones):
            nursery.start_soon(self._write, phone, self._random("phone", index))
        nursery.start_soon(self._write_as_companions, self._random("companions", 0))
        for index, ours in enumerate(self.cast.ours):
            others = [person for person in self.cast.people if person is not ours.screen.person]
            # Two programs with people of their own: order is promised to each.
            for half in range(2):
                random = self._random("program", 2 * index + half)
                nursery.start_soon(Program(self, ours, others[half::2], random).run)
        for index, home in enumerate(self.cast.homes):
            nursery.start_soon(self._write_as_baileys, home, self._random("baileys", index))

    def _random(self, what: str, index: int) -> Random:
        return Random(f"{self.seed} {what} {index}")

    async def pause(self, random: Random) -> bool:
        """Wait as long as an author does; whether to go on."""
        await trio.sleep(random.expovariate(1.0 / self.mean_s))
        return not self.is_over

    async def _write(self, author: Simulated, random: Random) -> None:
        while await self.pause(random):
            await self.say(author, random)

    async def _write_as_companions(self, random: Random) -> None:
        while await self.pause(random):
            if self.cast.companions:
                await self.say(random.choice(self.cast.companions), random)

    async def say(self, author: Simulated, random: Random) -> None:
        """Let a device of the simulator write to somebody."""
        person = author.screen.person
        to = random.choice([one for one in self.cast.people if one is not person])
        form = random.choice(("lid", "lid", "pn"))
        message = self.cast.book.draft(author.screen, to)
        answer = await self.cast.server.ask(
            "POST", f"{author.path}/messages", to=to.number, text=message.text, addressing=form
        )
        if answer.is_success:
            self.cast.book.settle(message, Fate.SENT, id=answer.json()["id"])
        else:
            assert author.screen.spans[-1].until is not None, answer.text
            self.cast.book.settle(message, Fate.REFUSED, "device_logged_out")

    async def _write_as_baileys(self, home: Home, random: Random) -> None:
        others = [person for person in self.cast.people if person is not home.screen.person]
        while await self.pause(random):
            to = random.choice(others)
            by_lid = random.random() < 0.5 and to not in self.cast.hidden
            jid = f"{to.lid}@lid" if by_lid else f"{to.number}@s.whatsapp.net"
            if not home.is_open:
                continue
            message = self.cast.book.draft(home.screen, to)
            with trio.move_on_after(BAILEYS_SENDS_S):
                message.id = await home.send(jid, message.text)
            if message.id is None:
                self.cast.book.settle(message, Fate.UNKNOWN, "not sent by Baileys")


class Program:
    """One partner's program: it writes through one device."""

    def __init__(self, talk: Talk, ours: Ours, people: list[Person], random: Random) -> None:
        self._talk = talk
        self._book = talk.cast.book
        self._ours = ours
        self._people = people
        self._random = random
        self._behind: deque[tuple[Message, str]] = deque()

    async def run(self) -> None:
        """Write until it is over, and see every message to its end."""
        while await self._talk.pause(self._random):
            if self._ours.rests:
                continue
            await self._send(self._book.draft(self._ours.screen, self._random.choice(self._people)))
            if len(self._behind) > WINDOW:
                await self._look_up(*self._behind.popleft())
        while self._behind:
            await self._look_up(*self._behind.popleft())

    async def _send(self, message: Message) -> None:
        headers = {"idempotency-key": f"soak-{message.serial}"}
        preference = self._random.choice(PREFERENCES)
        if preference is not None:
            headers["prefer"] = preference
        is_impatient = self._random.randrange(10) < IMPATIENT_OF_TEN
        patience_s = self._random.uniform(*HANGS_UP_S) if is_impatient else REQUEST_S
        body = {"to": message.to.number, "message": message.text}
        while True:
            self._talk.tries += 1
            response = await self._ask("POST", f"{self._ours.base}/send", headers, body, patience_s)
            patience_s = REQUEST_S
            if response is not None and self._is_answer(message, response):
                return
            await trio.sleep(self._random.uniform(*PAUSE_S))

    def _is_answer(self, message: Message, response: httpx.Response) -> bool:
        """Note what an answer says; False if the request has to be repeated."""
        told, status = response.json(), response.status_code
        if status == httpx.codes.OK:
            self._book.settle(message, Fate.SENT, id=told["wa_message_id"])
        elif status == httpx.codes.ACCEPTED:
            message.id = told["wa_message_id"]
            self._behind.append((message, told["status_url"]))
        elif status in AGAIN and "message_id" not in told:
            return False
        else:
            self._book.settle(message, Fate.REFUSED, str(told.get("code")))
        return True

    async def _look_up(self, message: Message, url: str) -> None:
        """Ask for the state of a message until it is final."""
        while True:
            response = await self._ask("GET", url, {}, None, REQUEST_S)
            if response is not None and response.is_success:
                told = response.json()
                state, reason = told["state"], str(told["reason"])
                if state not in UNDER_WAY:
                    fate = Fate.SENT if state in ARRIVED else Fate.REFUSED
                    fate = Fate.UNKNOWN if state == "unknown" else fate
                    self._book.settle(message, fate, reason)
                    return
            await trio.sleep(self._random.uniform(*PAUSE_S))

    async def _ask(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: dict[str, str] | None,
        patience_s: float,
    ) -> httpx.Response | None:
        response = None
        http = self._ours.device.partner.http
        with trio.move_on_after(patience_s), suppress(httpx.TransportError):
            response = await http.request(method, url, json=body, headers=headers)
        self._talk.answers[None if response is None else response.status_code] += 1
        return response
