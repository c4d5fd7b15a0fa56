"""The storm: programs that repeat, a daemon that is killed again and again, a lossy server.

Everything goes through the public HTTP API; the verdict is made from what programs, phones and the
server know.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import quantiles
from typing import Final

import httpx
import trio

from tests.support.daemon import Daemon
from tests.support.partner import Partner, PartnerDevice
from tests.torture.clients import Desk, Message, Program
from tests.torture.lanes import Lane
from tests.torture.plan import Plan, draw
from tests.torture.processes import Keeper, Simulated
from tests.torture.verdict import (
    Broken,
    Fate,
    Finding,
    Screen,
    Shown,
    judge_fates,
    judge_rows,
    judge_screens,
    judge_server,
)

LOOK_EVERY_S: Final = 2.0
TELL_EVERY_S: Final = 10.0
# Between "acknowledged" and "shown" there is one more process, which may be busy.
SHOWN_WITHIN_S: Final = 10.0
SETTLE_S: Final = 30.0
# What may still be on its way when the last answer has been given.
LATE: Final = (Broken.LOST, Broken.UNSETTLED)
LINKING_AT_ONCE: Final = 4
# A life that gets nothing done is ended all the same.
MAX_LIFE_S: Final = 45.0
HTTP_S: Final = 40.0
PAGE: Final = 200
MANY: Final = 1_000_000
TOLD: Final = 5
MAX_TOLD_LEN: Final = 400


@dataclass(frozen=True, slots=True)
class Size:
    """How big a storm is.

    Attributes:
        lost: of a thousand messages, how many the server loses; half of them before and half of
            them after it took them. A quarter of each half goes without cutting the socket.
        delayed: of a thousand acks, how many come late.
        bound_s: seconds after which it has failed.
    """

    sends: int = 10_000
    kills: int = 100
    devices: int = 20
    strangers: int = 20
    lost: int = 40
    delayed: int = 20
    bound_s: float = 900.0


FULL: Final = Size()
SHARE: Final = Size(sends=800, kills=10, devices=12, strangers=12, bound_s=300.0)


@dataclass(slots=True)
class Result:
    """What came of a storm.

    Attributes:
        service_s: seconds from each start of the daemon to the next final answer.
        lost: how often the server lost or delayed something, by the kind of the fault.
    """

    findings: list[Finding] = field(default_factory=list)
    answers: Counter[int | None] = field(default_factory=Counter)
    fates: Counter[Fate] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    service_s: list[float] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    kills: int = 0
    lives: int = 0
    tries: int = 0
    repeats: int = 0
    took_s: float = 0.0

    def count(self, broken: Broken) -> int:
        """How often a promise was broken."""
        return sum(finding.broken is broken for finding in self.findings)


class Storm:
    """One storm.

    Args:
        program: what Python runs as the daemon.
        stop_at: ends the storm as soon as one of these is found.
    """

    def __init__(
        self,
        plan: Plan,
        size: Size,
        http: httpx.AsyncClient,
        simulated: Simulated,
        daemon: Daemon,
        stop_at: Collection[Broken] = (),
    ) -> None:
        self._plan = plan
        self._size = size
        self._http = http
        self._simulated = simulated
        self._daemon = daemon
        self._stop_at = stop_at
        self._keeper = Keeper(daemon)
        self._desk = Desk(plan.drafts)
        self._desk.on_settled = self._settled
        self._devices: list[PartnerDevice] = []
        self._served = 0
        self._result = Result()

    async def run(self) -> Result:
        """Live through it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keeper.run)
            await self._link()
            await self._add_faults()
            begun = trio.current_time()
            with trio.move_on_after(self._size.bound_s):
                async with trio.open_nursery() as weather:
                    weather.start_soon(self._tell)
                    weather.start_soon(self._watch, weather.cancel_scope)
                    async with trio.open_nursery() as work:
                        work.start_soon(self._kill)
                        self._start_programs(work)
                    weather.cancel_scope.cancel()
            self._result.took_s = trio.current_time() - begun
            if not self._is_caught(self._result.findings):
                await self._judge()
            self._count()
            nursery.cancel_scope.cancel()
        return self._result

    # --- before ---

    async def _link(self) -> None:
        await self._ready()
        partner = await Partner.register(self._http, self._daemon.base_url)
        for number in self._plan.numbers:
            await self._simulated.make_account(number)
        await self._simulated.deliver_repeats()
        self._devices = [await partner.device(number) for number in self._plan.accounts]
        at_once = trio.CapacityLimiter(LINKING_AT_ONCE)

        async def link(device: PartnerDevice, number: str) -> None:
            async with at_once:
                await self._simulated.scan(number, await device.qr_text())
                await device.until("connected", SETTLE_S)

        async with trio.open_nursery() as nursery:
            for device, number in zip(self._devices, self._plan.accounts, strict=True):
                nursery.start_soon(link, device, number)
        print(f"  {len(self._devices)} devices are linked", flush=True)

    async def _ready(self) -> None:
        with trio.fail_after(SETTLE_S):
            while True:
                try:
                    if (await self._http.get(f"{self._daemon.base_url}/readyz")).is_success:
                        return
                except httpx.TransportError:
                    pass
                await trio.sleep(0.1)

    async def _add_faults(self) -> None:
        for number, (kind, per_mille) in enumerate(self._rates().items()):
            seed = self._plan.seed + number
            fields = {"count": MANY, "per_mille": per_mille, "seed": seed, "seconds": 0.5}
            await self._simulated.add_fault(kind, **fields)

    def _rates(self) -> dict[str, int]:
        half, silent = self._size.lost // 2, self._size.lost // 8
        return {
            "drop_before": half - silent,
            "lose": silent,
            "drop_after": half - silent,
            "lose_ack": silent,
            "delay_ack": self._size.delayed,
        }

    # --- meanwhile ---

    def _start_programs(self, nursery: trio.Nursery) -> None:
        for index, chat in enumerate(self._plan.chats):
            url = self._devices[chat.device].send_url
            program = Program(self._http, self._desk, chat, url, self._plan.seed + index)
            nursery.start_soon(program.run)

    async def _kill(self) -> None:
        for kill in self._plan.kills:
            await self._keeper.alive()
            if kill.after is not None:
                with trio.move_on_after(MAX_LIFE_S):
                    await self._desk.until_settled(kill.after)
            await trio.sleep(kill.delay_s)
            await self._keeper.kill()
        # What was lost before the last kill is repeated after it; nothing else would end the wait
        # for a lost ack for over a minute.
        await self._note_faults()
        await self._simulated.clear_faults()

    async def _note_faults(self) -> None:
        left = await self._simulated.faults()
        self._result.lost = {kind: MANY - left.get(kind, MANY) for kind in self._rates()}

    async def _watch(self, scope: trio.CancelScope) -> None:
        """Look for broken promises; the last word is spoken when all is over."""
        while True:
            await trio.sleep(LOOK_EVERY_S)
            findings = await self._look(trio.current_time() - SHOWN_WITHIN_S)
            if self._is_caught(findings):
                self._result.findings = findings
                scope.cancel()

    def _is_caught(self, findings: Sequence[Finding]) -> bool:
        return any(finding.broken in self._stop_at for finding in findings)

    async def _tell(self) -> None:
        begun = trio.current_time()
        while True:
            await trio.sleep(TELL_EVERY_S)
            print(
                f"  {trio.current_time() - begun:5.0f} s  {self._desk.settled:6}/"
                f"{self._size.sends} settled  {self._keeper.kills:3} kills"
                f"  {self._keeper.lives:3} lives",
                flush=True,
            )

    def _settled(self, message: Message) -> None:
        if self._served < self._keeper.lives:
            self._served = self._keeper.lives
            self._result.service_s.append(trio.current_time() - self._keeper.born)

    # --- afterwards ---

    async def _judge(self) -> None:
        findings: list[Finding] = []
        with trio.move_on_after(SETTLE_S):
            while True:
                findings = await self._look(trio.current_time())
                findings += await self._look_at_devices()
                # Everything else does not get better by waiting.
                if not any(finding.broken in LATE for finding in findings):
                    break
                await trio.sleep(LOOK_EVERY_S)
        messages = self._desk.messages.values()
        reasons = {message.draft.serial: message.reason for message in messages}
        findings += judge_fates(self._fates(trio.current_time()), reasons)
        findings += [
            Finding(Broken.SPLIT, f"#{message.draft.serial} is {', '.join(sorted(message.ids))}")
            for message in messages
            if len(message.ids) > 1
        ]
        findings += [Finding(Broken.DIED, f"status {status}") for status in self._keeper.deaths]
        findings += [Finding(Broken.COMPLAINT, line) for line in self._daemon.errors()]
        self._result.findings = findings

    async def _look(self, settled_before: float) -> list[Finding]:
        plan = self._plan
        screens = [
            Screen(number, None, list(await self._simulated.inbox(number)))
            for number in plan.numbers
        ]
        fates = self._fates(settled_before)
        return [
            *judge_screens(plan.drafts, plan.accounts, fates, screens),
            *judge_server(await self._simulated.violations()),
        ]

    async def _look_at_devices(self) -> list[Finding]:
        """Compare the devices' own lists, of both directions."""
        plan = self._plan
        fates = self._fates(trio.current_time())
        findings: list[Finding] = []
        for index, number in enumerate(plan.accounts):
            own = {draft.text: draft for draft in plan.drafts if draft.device == index}
            shown, rows = [], []
            for item in await self._listed(self._devices[index]):
                text, is_out = item["text"], item["direction"] == "out"
                if is_out and text in own:
                    rows.append((text, item["state"]))
                else:
                    shown.append(Shown(item["wa_message_id"], text, is_out))
            screen = Screen(number, index, shown)
            findings += judge_screens(plan.drafts, plan.accounts, fates, [screen])
            findings += judge_rows(own.values(), rows)
        return findings

    async def _listed(self, device: PartnerDevice) -> list[dict[str, str]]:
        """A device's messages, as its partner sees them."""
        url = f"{device.partner.base_url}/wa/{device.token}/messages"
        listed: list[dict[str, str]] = []
        after: dict[str, str] = {}
        while True:
            response = await self._http.get(url, params={"limit": str(PAGE), **after})
            assert response.is_success, response.text
            page = response.json()
            listed += page["messages"]
            if not page["has_more"]:
                return listed
            after = {"after": page["next"]}

    def _fates(self, settled_before: float) -> dict[int, Fate]:
        return {
            message.draft.serial: message.fate
            for message in self._desk.messages.values()
            if message.fate is Fate.OPEN or message.settled_at <= settled_before
        }

    def _count(self) -> None:
        result, messages = self._result, self._desk.messages.values()
        result.answers = self._desk.answers
        result.fates = Counter(message.fate for message in messages)
        result.tries = sum(message.tries for message in messages)
        result.latencies_s = [m.settled_at - m.asked_at for m in messages if m.settled_at]
        result.kills, result.lives = self._keeper.kills, self._keeper.lives


async def run_storm(
    seed: int,
    size: Size,
    program: Sequence[str] = ("-m", "sitpayd"),
    stop_at: Collection[Broken] = (),
) -> Result:
    """Draw a plan, start both processes and live through the storm."""
    plan = draw(
        seed,
        sends=size.sends,
        kills=size.kills,
        devices=size.devices,
        strangers=size.strangers,
    )
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    with tempfile.TemporaryDirectory(prefix="sitpayd-storm-") as directory:
        async with (
            httpx.AsyncClient(timeout=HTTP_S, limits=limits) as http,
            Simulated.start(http) as simulated,
        ):
            daemon = Daemon(Path(directory), simulated.url, simulated.root_key, program)
            result = await Storm(plan, size, http, simulated, daemon, stop_at).run()
            result.repeats = await simulated.repeats()
            return result


def table(result: Result) -> str:
    """The figures of a storm, one a line."""
    fates, answers = result.fates, result.answers
    told = ", ".join(f"{count} x {status or 'none'}" for status, count in answers.most_common())
    lost = ", ".join(f"{kind} {count}" for kind, count in result.lost.items())
    rows = {
        "messages sent, acknowledged": f"{fates[Fate.SENT]}",
        "outcome unknown": f"{fates[Fate.UNKNOWN]}",
        "kills, lives": f"{result.kills}, {result.lives}",
        "requests, answers": f"{result.tries}: {told}",
        "frames lost by the server": lost,
        "repeats of the same id": f"{result.repeats}",
        "first answer to final one": _spread(result.latencies_s),
        "start to first final answer": _spread(result.service_s),
        **{str(broken): f"{result.count(broken)}" for broken in Broken},
    }
    return "\n".join(f"  {name:<32}{value}" for name, value in rows.items())


def _spread(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "-"
    cuts = quantiles(seconds, n=100, method="inclusive")
    return f"p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, most {max(seconds):.2f} s"


def told(findings: Sequence[Finding]) -> str:
    """The first findings of each kind."""
    lines = []
    for broken in Broken:
        texts = [finding.text for finding in findings if finding.broken is broken]
        lines += [f"  {broken}: {text[:MAX_TOLD_LEN]}" for text in texts[:TOLD]]
    return "\n".join(lines)


def configure(parser: ArgumentParser) -> None:
    """Add the options of a storm."""
    parser.add_argument("--sends", type=int, help="messages")
    parser.add_argument("--kills", type=int, help="times the daemon is killed")
    parser.add_argument("--bound", type=float, help="seconds after which it has failed")


async def run(options: Namespace) -> bool:
    """Run one storm; it holds if nothing was found."""
    size = SHARE if options.share else FULL
    given = {"sends": options.sends, "kills": options.kills, "bound_s": options.bound}
    size = replace(size, **{name: value for name, value in given.items() if value is not None})
    result = await run_storm(options.seed, size)
    print(table(result))
    if result.findings:
        print(told(result.findings))
    return not result.findings


LANE: Final = Lane("nothing is lost and nothing comes twice, however often it dies", configure, run)
