"""One run: ten accounts talk while things go wrong; then nothing goes wrong any more, and all has
to come to its end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import trio

from bench.processes import BenchError, rss_kib
from tests.soak_protocol.cast import Book, Cast, Home, Ours, Server, linked_homes
from tests.soak_protocol.conversation import Talk
from tests.soak_protocol.events import World
from tests.soak_protocol.judge import (
    LATE_S,
    MAY_COME,
    Finding,
    Message,
    excuse,
    judge_fates,
    judge_rows,
    judge_screens,
    judge_server,
)
from tests.support.daemon import ADMIN_KEY, ROOT, Daemon, environment
from tests.support.partner import Partner
from tests.torture.processes import Keeper

READ_EACH_S: Final = 2.0
READS_A_LOOK: Final = 5
TELL_EACH_S: Final = 60.0
READY_S: Final = 60.0
HTTP_S: Final = 100.0
# Simulator and daemon close what was idle for 5 and 10 s: used again just then, it might be lost.
REUSE_WITHIN_S: Final = 2.0
# A machine that is busy with other things answers late without meaning any harm.
ANSWER_S: Final = 90.0
OURS: Final = 5
BAILEYS: Final = 2
PEOPLE: Final = 10
HIDDEN: Final = 2
FIRST_COMPANIONS: Final = 2
# Of one daemon with a handful of devices.
MAX_RSS_KIB: Final = 400 * 1024
MAX_FILES: Final = 200
# What may come and go beside the devices: requests under way, connections that end.
BESIDE: Final = 20
BAILEYS_TAKEN_S: Final = 3.0
BAILEYS_LOST_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    """How long, how rough; all in seconds.

    Attributes:
        talk_s: how long everybody writes.
        settle_s: by when all has to have come to its end after that.
        message_each_s: between two messages of one author, on average; event_each_s: between two
            events.
        homes: how many clients are Baileys.
    """

    talk_s: float
    settle_s: float
    message_each_s: float
    event_each_s: float
    homes: int = BAILEYS


@dataclass(slots=True)
class Soaked:
    """What came of it.

    Attributes:
        excused: what looked wrong and was right, by the reason.
        rss_kib: the most that the daemon had; files: descriptors at the start and at the end.
    """

    findings: list[str] = field(default_factory=list)
    fates: Counter[str] = field(default_factory=Counter)
    shown: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    answers: Counter[int | None] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    rss_kib: int = 0
    files: tuple[int, int] = (0, 0)
    tasks: tuple[int, int] = (0, 0)
    lives: int = 0
    took_s: float = 0.0


class _Soak:
    """One run."""

    def __init__(
        self, seed: int, size: Size, daemon: Daemon, http: httpx.AsyncClient, cast: Cast
    ) -> None:
        self.size = size
        self.cast = cast
        self.keeper = Keeper(daemon)
        self.talk = Talk(cast, seed, size.message_each_s)
        self.world = World(cast, self.talk, self.keeper)
        self.result = Soaked()
        self._seed = seed
        self._daemon = daemon
        self._http = http
        self._begun = trio.current_time()
        self._bounds: set[str] = set()
        self._excused: dict[str, str] = {}

    # --- before ---

    async def link(self, url: str, directory: Path) -> None:
        """Make ten accounts and the daemon's devices."""
        await self._ready()
        await self.cast.server.ask("PATCH", "/options", answer_s=ANSWER_S)
        people = [await self.cast.make_person(f"Person {index}") for index in range(PEOPLE)]
        for person in people[-HIDDEN:]:
            self.cast.hidden.add(person)
            path = f"/accounts/{person.number}"
            await self.cast.server.ask("PATCH", path, lid_is_hidden=True)
        partner = await Partner.register(self._http, self._daemon.base_url)
        for person in people[:OURS]:
            device = await partner.device(f"Device of {person.number[-4:]}")
            ours = Ours(self.cast.server, device, person)
            await ours.link()
            self.cast.ours.append(ours)
        for person in people[OURS : OURS + self.size.homes]:
            home = Home(self.cast.server, url, person, directory / f"baileys-{person.number}")
            self.cast.homes.append(home)
        for person in (people[0], people[-1])[:FIRST_COMPANIONS]:
            await self.cast.add_companion(person)

    async def _ready(self) -> None:
        with trio.fail_after(READY_S):
            while True:
                with suppress(httpx.TransportError):
                    if (await self._http.get(f"{self._daemon.base_url}/readyz")).is_success:
                        return
                await trio.sleep(0.1)

    # --- meanwhile ---

    async def converse(self) -> None:
        """Let everybody talk, and everything happen, as long as it takes."""
        size = self.size
        self.result.files, self.result.tasks = await self._held()
        async with trio.open_nursery() as around:
            around.start_soon(self._measure)
            around.start_soon(self._tell)
            async with trio.open_nursery() as authors:
                async with trio.open_nursery() as events:
                    self.talk.begin(authors)
                    with trio.move_on_after(size.talk_s) as scope:
                        async with trio.open_nursery() as watch:
                            watch.start_soon(self._watch, scope)
                            watch.start_soon(self.world.deal, self._seed, size.event_each_s, events)
                    self.talk.is_over = True
                await self._let_all_be_well()
                authors.cancel_scope.deadline = trio.current_time() + size.settle_s
            await self._settle()
            around.cancel_scope.cancel()

    async def _measure(self) -> None:
        while True:
            await trio.sleep(READ_EACH_S)
            with suppress(BenchError, OSError):
                pid = self._daemon.pid
                assert pid is not None
                rss, files = rss_kib(pid), len(list(Path(f"/proc/{pid}/fd").iterdir()))
                self.result.rss_kib = max(self.result.rss_kib, rss)
                if rss > MAX_RSS_KIB:
                    self._bounds.add(f"the daemon has had more than {MAX_RSS_KIB // 1024} MiB")
                if files > MAX_FILES:
                    self._bounds.add(f"the daemon has had more than {MAX_FILES} descriptors")

    async def _watch(self, scope: trio.CancelScope) -> None:
        """Judge what can be judged meanwhile; what is found ends the talk."""
        while True:
            for _ in range(READS_A_LOOK):
                await trio.sleep(READ_EACH_S)
                await self._read()
            found = await self.judge(trio.current_time() - LATE_S)
            if found or self.world.failed or self.keeper.deaths:
                for finding in found[:3]:
                    print(f"  found while it goes on: {finding}", flush=True)
                scope.cancel()

    async def _read(self) -> None:
        await self.cast.read()
        await self.cast.look_up_baileys(BAILEYS_TAKEN_S, BAILEYS_LOST_S)
        self.world.counts["baileys_hung"] += sum(home.tend() for home in self.cast.homes)

    async def _tell(self) -> None:
        while True:
            await trio.sleep(TELL_EACH_S)
            print(self.progress(), flush=True)

    def progress(self) -> str:
        """How it goes, in one line."""
        fates = Counter(message.fate for message in self.cast.book.messages)
        shown = sum(len(screen.shown) for screen in self.cast.screens)
        told = ", ".join(f"{count} {fate}" for fate, count in sorted(fates.items()))
        events = sum(self.world.counts.values())
        return (
            f"  {(trio.current_time() - self._begun) / 60:5.1f} min: {told}; {shown} shown;"
            f" {events} events; {self.keeper.lives} lives of the daemon"
        )

    # --- afterwards ---

    async def _let_all_be_well(self) -> None:
        """Nothing goes wrong any more. The daemon begins once more: what it waits for was lost."""
        server = self.cast.server
        await server.ask("DELETE", "/faults")
        await server.ask("PATCH", "/options", resumption="accept")
        for person in self.cast.people:
            await server.ask("PATCH", f"/accounts/{person.number}", lid_refusal=None)
        await self.keeper.kill()
        for ours in self.cast.ours:
            with trio.move_on_after(READY_S):
                await ours.operate("POST", "/resume")

    async def _settle(self) -> None:
        """Look until nothing is missing any more, or the time is over."""
        findings: list[Finding] = []
        with trio.move_on_after(self.size.settle_s):
            while True:
                await self._read()
                await self.cast.look_up_baileys(0.0, BAILEYS_TAKEN_S)
                findings = await self.judge(trio.current_time(), is_last=True)
                is_idle = await self._is_idle()
                if is_idle and not any(finding.broken in MAY_COME for finding in findings):
                    break
                await trio.sleep(READ_EACH_S)
        self.result.findings += [await self._with_evidence(finding) for finding in findings]
        if not await self._is_idle():
            self.result.findings.append("not all are connected with nothing waiting")
        self.result.findings += await self._others()

    async def judge(self, settled_before: float, *, is_last: bool = False) -> list[Finding]:
        """Hold what is shown against what was written; what the rules allow is left out."""
        book = self.cast.book
        found = judge_screens(book.messages, self.cast.screens, settled_before)
        told = (await self.cast.server.ask("GET", "/violations")).json()
        baileys = frozenset(home.jid for home in self.cast.homes)
        found += judge_server(told["violations"], baileys)
        if is_last:
            found += judge_fates(book.messages)
            for ours in self.cast.ours:
                found += await self._judge_rows(ours)
        return [finding for finding in found if not await self._is_excused(finding)]

    async def _is_excused(self, finding: Finding) -> bool:
        """Whether it is right by the rules; asked of the server once."""
        if str(finding) in self._excused:
            return True
        message = finding.message
        copies = {} if message is None else await self.cast.server.copies(message)
        reason = excuse(finding, copies)
        if reason is not None:
            self._excused[str(finding)] = f"{finding.broken}: {reason}"
        return reason is not None

    async def _with_evidence(self, finding: Finding) -> str:
        """A finding, and what the server knows of the message."""
        message = finding.message
        if message is None:
            return str(finding)
        entry = None if message.id is None else await self.cast.server.entry(message.id)
        since = message.begun - self._begun
        return f"{finding}; begun at {since:.0f} s, {message.fate} {message.reason}, {entry}"

    async def _judge_rows(self, ours: Ours) -> list[Finding]:
        rows = await ours.rows(self.cast.book)
        confirmed = set()
        for text, state, _ in rows:
            message = self.cast.book.by_text[text]
            if state == "sent" and await self._is_confirmed(message):
                confirmed.add(text)
        told = [(text, state) for text, state, _ in rows]
        return judge_rows(ours.screen, self.cast.book.messages, told, frozenset(confirmed))

    async def _is_confirmed(self, message: Message) -> bool:
        entry = None if message.id is None else await self.cast.server.entry(message.id)
        if entry is None:
            return False
        copies = entry["copies"]
        assert isinstance(copies, dict)
        theirs = [copy for jid, copy in copies.items() if jid.startswith(message.to.number)]
        return any({"delivered", "inactive", "read"} & {*copy["receipts"]} for copy in theirs)

    async def _is_idle(self) -> bool:
        """Whether every client is connected and nothing waits for it."""
        seen = {str(one["jid"]): one for one in await self.cast.server.get("/devices")}
        clients = [seen.get(one.jid, {}) for one in self.cast.clients]
        return all(one.get("state") == "active" and one["queued"] == 0 for one in clients)

    async def _others(self) -> list[str]:
        """What nobody's screen tells."""
        findings = [f"{name} did not come to its end" for name in self.world.failed]
        findings += [f"the daemon ended by itself: {status}" for status in self.keeper.deaths]
        findings += [f"the daemon complains: {line}" for line in self._daemon.errors()]
        told = (await self.cast.server.ask("GET", "/violations")).json()
        findings += [f"not simulated: {item}" for item in told["unsupported"]]
        files, tasks = await self._held()
        for what, before, after in (
            ("file descriptors", self.result.files[0], files[0]),
            ("tasks", self.result.tasks[0], tasks[0]),
        ):
            if after > before + BESIDE:
                findings.append(f"{before} {what} at the start, {after} at the end")
        self.result.files = (self.result.files[0], files[0])
        self.result.tasks = (self.result.tasks[0], tasks[0])
        return [*findings, *sorted(self._bounds)]

    async def _held(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The daemon's file descriptors and tasks, twice each."""
        await self._ready()
        files = len(list(Path(f"/proc/{self._daemon.pid}/fd").iterdir()))
        url = f"{self._daemon.base_url}/metrics"
        page = (await self._http.get(url, headers={"x-admin-key": ADMIN_KEY})).text
        found = re.search(r"(?m)^sitpayd_tasks (\d+)", page)
        assert found is not None
        return (files, files), (int(found[1]), int(found[1]))

    def tally(self) -> Soaked:
        """The figures."""
        result = self.result
        result.fates = Counter(str(message.fate) for message in self.cast.book.messages)
        for screen in self.cast.screens:
            result.shown[screen.kind.name.lower()] += len(screen.shown)
        result.events, result.answers = self.world.counts, self.talk.answers
        result.excused = Counter(self._excused.values())
        result.lives = self.keeper.lives
        result.took_s = trio.current_time() - self._begun
        return result


async def soak(seed: int, size: Size, directory: Path) -> Soaked:
    """Let them talk; tells what must not be."""
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=None, keepalive_expiry=REUSE_WITHIN_S
    )
    async with (
        httpx.AsyncClient(timeout=HTTP_S, limits=limits) as http,
        _simulator(directory / "simulator.log") as announced,
    ):
        server = Server(announced["control"], http)
        root_key = bytes.fromhex(announced["root_key"])
        daemon = Daemon(directory, announced["url"], root_key, noise_resume="true")
        run = _Soak(seed, size, daemon, http, Cast(server, Book()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.keeper.run)
            await run.link(announced["url"], directory)
            async with linked_homes(run.cast.homes):
                await run.converse()
            nursery.cancel_scope.cancel()
        return run.tally()


@asynccontextmanager
async def _simulator(log: Path) -> AsyncIterator[dict[str, str]]:
    """Run a simulator in a process of its own; what it says of itself."""
    with log.open("ab") as errors:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "sitpayd", "simulate"],
            # Where it is, should it have to be aborted.
            env=environment() | {"PYTHONFAULTHANDLER": "1"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdout is not None
    try:
        line = b""
        with trio.fail_after(READY_S):
            while not line.endswith(b"\n"):
                data = await process.stdout.receive_some()
                assert data, "the simulator ended at its start"
                line += data
        yield json.loads(line)
    finally:
        is_ill = sys.exc_info()[0] not in (None, trio.Cancelled)
        process.send_signal(signal.SIGABRT if is_ill else signal.SIGKILL)
        with trio.CancelScope(deadline=trio.current_time() + READY_S, shield=True):
            await process.wait()
            await process.stdout.aclose()
