"""Who takes part: phones and companions of the simulator, devices of the daemon, Baileys.

What they wrote stands in the book; what they show is read here. What happens to them is events.py.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import trio

from tests.peers.baileys import BaileysPeer
from tests.peers.process import ConnectionChanged, MessageReceived, PeerError, QrShown
from tests.soak_protocol.judge import Copy, Kind, Message, Person, Screen, Shown, Span
from tests.support.partner import PartnerDevice, read_qr
from tests.support.waiting import eventually
from tests.torture.verdict import Fate

Json = dict[str, object]

PAGE: Final = 200
# Receipts that say that a message was read by the device.
CONFIRMS: Final = frozenset(("delivered", "inactive", "sender", "read"))
# A connection for each request: on one that was used before, a request stayed without an answer
# twice in an hour of runs, while the simulator went on. It is not known why.
ONCE: Final = {"connection": "close"}
AGAIN_S: Final = 0.3
LINK_S: Final = 120.0
QUIT_S: Final = 20.0
HANGS_S: Final = 10.0
# States of a device that ask for a new link.
UNLINKED: Final = ("logged_out", "unpaired", "pairing")


class Server:
    """The simulator's control API. It answers errors too: what it is asked may be too late."""

    def __init__(self, control: str, http: httpx.AsyncClient) -> None:
        self._control = control
        self._http = http

    async def ask(self, method: str, path: str, **body: object) -> httpx.Response:
        """Ask for something that may be refused."""
        return await self._http.request(
            method, self._control + path, json=body or None, headers=ONCE
        )

    async def get(self, path: str) -> list[Json]:
        """A list; nothing if there is none any more."""
        response = await self.ask("GET", path)
        found: list[Json] = response.json() if response.is_success else []
        return found

    async def entry(self, message_id: str) -> Json | None:
        """What became of a message, None if the server never took it."""
        response = await self.ask("GET", f"/messages/{message_id}")
        found: Json = response.json()
        return found if response.is_success and found["error"] is None else None

    async def copies(self, message: Message) -> dict[str, Copy]:
        """What became of each copy of a message."""
        entry = None if message.id is None else await self.entry(message.id)
        if entry is None:
            return {}
        copies = entry["copies"]
        assert isinstance(copies, dict)
        return {
            jid: Copy(
                copy["deliveries"],
                copy["receipts"].count("retry"),
                copy["answer"],
                not CONFIRMS.isdisjoint(copy["receipts"]),
            )
            for jid, copy in copies.items()
        }


class Book:
    """Every message that was written."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.by_text: dict[str, Message] = {}

    def draft(self, author: Screen, to: Person) -> Message:
        """Begin a message."""
        serial = len(self.messages)
        text = f"#{serial} {secrets.token_hex(8)}"
        message = Message(serial, text, author, to, trio.current_time())
        self.messages.append(message)
        self.by_text[text] = message
        return message

    @staticmethod
    def settle(message: Message, fate: Fate, reason: str = "", id: str | None = None) -> None:
        """Note what became of it."""
        message.fate, message.reason, message.settled = fate, reason, trio.current_time()
        message.id = id or message.id


@dataclass(slots=True)
class Simulated:
    """A phone or a companion of the simulator; `path` is where the control API has it."""

    server: Server
    screen: Screen
    path: str
    _lock: trio.Lock = field(default_factory=trio.Lock)

    async def read(self) -> None:
        """See what is new on its screen."""
        async with self._lock:
            shown = self.screen.shown
            for item in await self.server.get(f"{self.path}/inbox?after={len(shown)}"):
                shown.append(
                    Shown(
                        str(item["text"]),
                        str(item["id"]),
                        bool(item["from_me"]),
                        str(item["peer"]),
                    )
                )


class Ours:
    """A device of the daemon.

    Attributes:
        rests: nobody writes through it for the moment.
        answers: how often each status was answered.
    """

    def __init__(self, server: Server, device: PartnerDevice, person: Person) -> None:
        self.device = device
        self.screen = Screen(f"device of {person.number[-4:]}", Kind.DAEMON, person, [])
        self.rests = False
        self.linked_at = 0.0
        self.base = f"{device.partner.base_url}/wa/{device.token}"
        self._server = server
        self._after: str | None = None
        self._lock = trio.Lock()

    @property
    def jid(self) -> str:
        """Its present address."""
        return self.screen.spans[-1].jid

    async def call(self, method: str, url: str, **headers: str) -> httpx.Response:
        """Ask the daemon, again and again while it does not answer; the caller's deadline."""
        while True:
            with suppress(httpx.TransportError):
                response = await self.device.partner.http.request(method, url, headers=headers)
                if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return response
            await trio.sleep(AGAIN_S)

    async def operate(self, method: str, route: str) -> Json:
        """Ask for it as its partner."""
        partner = self.device.partner
        response = await self.call(
            method, f"{partner.base_url}{self.device.path}{route}", **partner.headers
        )
        told: Json = response.json()
        return told

    async def status(self) -> str:
        """Its status."""
        return str((await self.operate("GET", "/status")).get("status"))

    async def link(self) -> None:
        """Link it to its person's phone, as often as it takes, and wait until it is connected.

        Raises:
            trio.TooSlowError: If it does not get there.
        """
        with trio.fail_after(LINK_S):
            while (jid := await self._seen_by_server()) is None:
                if await self.status() in UNLINKED:
                    told = await self.operate("POST", "/qr")
                    if told.get("type") == "success" and "qr" in told:
                        path = f"/accounts/{self.screen.person.number}/scan"
                        await self._server.ask("POST", path, qr=read_qr(str(told["qr"])))
                await trio.sleep(AGAIN_S)
        self.linked_at = trio.current_time()
        self.screen.spans.append(Span(jid, self.linked_at))

    async def _seen_by_server(self) -> str | None:
        """Its address, if it is linked and both sides call it connected."""
        for device in await self._server.get("/devices"):
            is_ours = device["phone"] == self.screen.person.number and device["state"] == "active"
            if is_ours and await self.status() == "connected":
                return str(device["jid"])
        return None

    async def read(self, book: Book) -> None:
        """See what is new in its list."""
        async with self._lock:
            while True:
                page = await self._page(self._after)
                if page is None:
                    return
                for item in page["messages"]:
                    self._after = str(item["message_id"])
                    written = book.by_text.get(item["text"])
                    is_own = written is not None and written.author is self.screen
                    if item["direction"] == "in" or not is_own:
                        self._show(item)
                if not page["has_more"]:
                    return

    def _show(self, item: dict[str, str]) -> None:
        self.screen.shown.append(
            Shown(item["text"], item["wa_message_id"], item["direction"] == "out", item["peer"])
        )

    async def rows(self, book: Book) -> list[tuple[str, str, str]]:
        """Text, state and reason of everything that was written through it."""
        rows = []
        after: str | None = None
        while (page := await self._page(after)) is not None:
            for item in page["messages"]:
                after = str(item["message_id"])
                written = book.by_text.get(item["text"])
                if item["direction"] == "out" and written and written.author is self.screen:
                    rows.append((item["text"], item["state"], str(item["reason"])))
            if not page["has_more"]:
                return rows
        raise AssertionError("the list of messages cannot be read")

    async def _page(self, after: str | None) -> dict[str, list[dict[str, str]]] | None:
        query = f"?limit={PAGE}" + (f"&after={after}" if after else "")
        with trio.move_on_after(LINK_S):
            response = await self.call("GET", f"{self.base}/messages{query}")
            assert response.is_success, response.text
            page: dict[str, list[dict[str, str]]] = response.json()
            return page
        return None


class Home:
    """A companion that is an unmodified Baileys; it is started again from its files."""

    def __init__(self, server: Server, url: str, person: Person, directory: Path) -> None:
        self.screen = Screen(f"Baileys of {person.number[-4:]}", Kind.BAILEYS, person, [])
        self.peer: BaileysPeer | None = None
        self.starts = 0
        self._server = server
        self._url = url
        self._directory = directory
        self._read_of_life = 0
        self._wants_restart = trio.Event()
        self._open_at = 0.0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run it until cancelled; started once it is linked."""
        while True:
            async with BaileysPeer.start(self._url, self._directory) as peer:
                self._wants_restart = trio.Event()
                self.starts += 1
                await peer.connect()
                if not self.screen.spans:
                    await self._link(peer)
                    task_status.started()
                self.peer, self._read_of_life = peer, 0
                await self._wants_restart.wait()
                self.peer = None
                with trio.move_on_after(QUIT_S):
                    await peer.quit()
                self._take(peer)

    async def _link(self, peer: BaileysPeer) -> None:
        with trio.fail_after(LINK_S):
            qr = await peer.wait_for(QrShown)
            path = f"/accounts/{self.screen.person.number}/scan"
            scanned = await self._server.ask("POST", path, qr=qr.text)
            await peer.wait_for(ConnectionChanged, lambda change: change.state == "open")
            self.screen.spans.append(Span(scanned.json()["jid"], trio.current_time()))

    @property
    def is_open(self) -> bool:
        """Whether it is logged in."""
        changes = [] if self.peer is None else self.peer.seen(ConnectionChanged)
        return bool(changes) and changes[-1].state == "open"

    @property
    def jid(self) -> str:
        """Its address."""
        return self.screen.spans[-1].jid

    def restart(self) -> None:
        """End it in an orderly way, and start it again."""
        self._wants_restart.set()

    def tend(self) -> bool:
        """Start it again if it hangs; whether it did.

        A dial that is answered with an HTTP error is never given up: Baileys listens for
        `unexpected-response`, whereupon its WebSocket leaves the rest to it, and does nothing.
        """
        now = trio.current_time()
        if self.peer is None or self.is_open:
            self._open_at = now
        hangs = now - self._open_at > HANGS_S
        if hangs:
            self._open_at = now
            self.restart()
        return hangs

    def read(self) -> None:
        """See what is new on its screen."""
        if self.peer is not None:
            self._take(self.peer)

    def _take(self, peer: BaileysPeer) -> None:
        fresh = peer.history[self._read_of_life :]
        self._read_of_life = len(peer.history)
        for event in fresh:
            if isinstance(event, MessageReceived):
                chat = event.chat
                self.screen.shown.append(Shown(event.text, event.id, event.from_me, chat))

    async def send(self, to: str, text: str) -> str | None:
        """Send a text; its id, None if it cannot be."""
        if self.peer is None:
            return None
        try:
            return await self.peer.send(to, text)
        except PeerError:
            return None


@dataclass(slots=True)
class Cast:
    """Everybody.

    Attributes:
        hidden: whose LID is told nobody.
        gone: screens of companions that were unlinked.
    """

    server: Server
    book: Book
    people: list[Person] = field(default_factory=list)
    phones: list[Simulated] = field(default_factory=list)
    companions: list[Simulated] = field(default_factory=list)
    ours: list[Ours] = field(default_factory=list)
    homes: list[Home] = field(default_factory=list)
    hidden: set[Person] = field(default_factory=set)
    gone: list[Screen] = field(default_factory=list)

    @property
    def clients(self) -> list[Ours | Home]:
        """Who dials the simulator."""
        return [*self.ours, *self.homes]

    @property
    def screens(self) -> list[Screen]:
        """Every screen that there is or was."""
        simulated = [one.screen for one in (*self.phones, *self.companions)]
        return [*simulated, *(one.screen for one in self.clients), *self.gone]

    async def make_person(self, name: str) -> Person:
        """Make an account with a phone."""
        made = (await self.server.ask("POST", "/accounts", name=name, business_name=name)).json()
        person = Person(made["phone"], made["lid"].partition("@")[0])
        self.people.append(person)
        spans = [Span(f"{person.number}@s.whatsapp.net", trio.current_time())]
        screen = Screen(f"phone of {person.number[-4:]}", Kind.PHONE, person, spans)
        self.phones.append(Simulated(self.server, screen, f"/accounts/{person.number}"))
        return person

    async def add_companion(self, person: Person) -> None:
        """Link a companion of the simulator."""
        answer = await self.server.ask("POST", f"/accounts/{person.number}/companions")
        jid = str(answer.json()["jid"])
        spans = [Span(jid, trio.current_time())]
        screen = Screen(f"companion {jid[-20:-15]}", Kind.COMPANION, person, spans)
        self.companions.append(Simulated(self.server, screen, f"/devices/{jid}"))

    async def remove_companion(self, companion: Simulated) -> None:
        """Unlink a companion of the simulator; what it shows is kept."""
        self.companions.remove(companion)
        self.gone.append(companion.screen)
        await companion.read()
        companion.screen.spans[-1].until = trio.current_time()
        await self.server.ask("DELETE", companion.path)

    async def reinstall(self, person: Person) -> None:
        """Let a person begin on a new phone; the companions are unlinked with it."""
        companions = [it for it in self.companions if it.screen.person is person]
        for companion in companions:
            self.companions.remove(companion)
            self.gone.append(companion.screen)
            await companion.read()
        now = trio.current_time()
        clients = [one.screen for one in self.ours if one.screen.person is person]
        for screen in [*(one.screen for one in companions), *clients]:
            screen.spans[-1].until = now
        await self.server.ask("POST", f"/accounts/{person.number}/reinstall")

    async def read(self) -> None:
        """See what is new everywhere."""
        for one in [*self.phones, *self.companions]:
            await one.read()
        for ours in self.ours:
            await ours.read(self.book)
        for home in self.homes:
            home.read()

    async def look_up_baileys(self, at_least_s: float, gives_up_s: float) -> None:
        """Ask the server about what Baileys wrote: it took it, or it was lost on the way.

        Args:
            at_least_s: seconds that a message has to come to the server.
            gives_up_s: seconds after which it will come no more: Baileys sends nothing again.
        """
        now = trio.current_time()
        for message in self.book.messages:
            if message.author.kind is not Kind.BAILEYS or message.fate is not Fate.OPEN:
                continue
            if message.id is None or now - message.begun < at_least_s:
                continue
            if await self.server.entry(message.id) is not None:
                self.book.settle(message, Fate.SENT)
            elif now - message.begun >= gives_up_s:
                self.book.settle(message, Fate.UNKNOWN, "lost on the way")


@asynccontextmanager
async def linked_homes(homes: list[Home]) -> AsyncIterator[None]:
    """Run these clients as long as the block runs, linked."""
    async with trio.open_nursery() as nursery:
        for home in homes:
            await nursery.start(home.run)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()


async def until_open(home: Home, within_s: float) -> None:
    """Wait until a client is logged in."""

    async def look() -> bool:
        return home.is_open

    await eventually(look, f"{home.screen.name} is logged in", within_s)
