"""A simulated world: real daemons, a real simulated WhatsApp, and everything that can go wrong.

One event loop, one mock clock, one seed. The daemon's supervisor, actors, transport, API and
storage are the product's; its sockets are wires (wire.py), its disk is in memory and outlives it
(disk.py), its time and its randomness come from the seed (chance.py), and the weather decides what
fails (weather.py). A daemon may die between any two steps of its tasks and is started anew on what
was committed. When the storm is over all must come to its end, and that is judged (judge.py).
"""

from __future__ import annotations

import gc
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from random import Random
from types import MethodType
from typing import Final
from unittest.mock import patch

import trio
import trio.testing

from sitpayd import clock, daemon
from sitpayd.actors import transport
from sitpayd.actors.connector import Route
from sitpayd.actors.dials import DialBucket
from sitpayd.actors.lines import Lines
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.pacing import PacingLimits
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.shelf import merged
from sitpayd.actors.status import StatusBoard
from sitpayd.actors.supervisor import DeviceSupervisor
from sitpayd.actors.transport import Outgoing, Report
from sitpayd.actors.world import World as DaemonWorld
from sitpayd.api import app as front
from sitpayd.api.app import create_app
from sitpayd.log import configure
from sitpayd.settings import Settings
from sitpayd.simulator.accounts import PHONE, Device
from sitpayd.simulator.options import Options, Repeats
from sitpayd.simulator.routing import Answer as ServerAnswer
from sitpayd.simulator.server import Server
from sitpayd.storage import devices
from sitpayd.storage.database import Unit
from sitpayd.storage.partners import create_partner, create_user
from sitpayd.storage.records import DeviceRecord, utc_now
from sitpayd.storage.sessions import add_prekeys, learn_mapping, mark_uploaded, save_credentials
from sitpayd.timekeeping import Timekeeper, take_over
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.failure import StreamError, stream_error
from tests.torture.callers import Answer, Program
from tests.torture.chance import Chance, seeded
from tests.torture.disk import VAULT, DeathError, Disk, SimulatedDatabase, prepare
from tests.torture.judge import Judge
from tests.torture.life import Life
from tests.torture.scene import Linked, link, link_to
from tests.torture.weather import Blow, Dialling, Stroke, Weather
from tests.torture.wire import Network
from tests.torture.witness import Breach, Finding, Witness

# INV7: with nothing failing, everything comes to its end within this time.
REST_WITHIN_S: Final = 600.0
# Longer than any answer that is still on its way.
SETTLE_S: Final = 5.0
_HOUSE_S: Final = 5.0
_PARTNERS: Final = 2
# What a full or locked disk makes the daemon say.
_EXPECTED: Final = "event=device.storage_failed"
_NOBODY: Final = "4915100000099"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one world.

    Attributes:
        trace: digest of everything that happened.
        lived_s: virtual seconds.
        counts: how much of what happened.
    """

    seed: int
    trace: str
    findings: tuple[Finding, ...]
    events: int
    lived_s: float
    counts: Mapping[str, int]


def run_world(seed: int, *, is_verbose: bool = False) -> Outcome:
    """Let a world live and judge it. No event loop may run."""
    prepare()
    log = io.StringIO()
    with patch.object(sys, "excepthook"):
        configure("error", "text", log)
    chance = Chance(seed)
    # What the collector ends would otherwise end at a moment of its own choosing.
    gc.disable()
    try:
        with seeded(chance):
            clock = trio.testing.MockClock(autojump_threshold=0)
            return trio.run(partial(_run, chance, log, is_verbose), clock=clock)
    finally:
        gc.enable()
        gc.collect()


async def _run(chance: Chance, log: io.StringIO, is_verbose: bool) -> Outcome:
    world = World(chance, is_verbose)
    # Only what is asked here: making the table of routes takes longer than a life of the daemon.
    routes = [route for route in front.ROUTES if route.rule.startswith("/wa/")]
    with (
        patch.object(transport, "open_stream", world.open_stream),
        patch.object(transport, "open_websocket", world.open_websocket),
        patch.object(front, "ROUTES", routes),
    ):
        await world.run()
    world.judge([line for line in log.getvalue().splitlines() if _EXPECTED not in line])
    return Outcome(
        seed=chance.seed,
        trace=world.witness.digest,
        findings=tuple(world.witness.findings),
        events=world.witness.events,
        lived_s=trio.current_time(),
        counts=world.counts,
    )


class World:
    """One world."""

    def __init__(self, chance: Chance, is_verbose: bool) -> None:
        draws = chance.draws("world")
        self.chance = chance
        self.counts: Counter[str] = Counter()
        self.weather = Weather(chance)
        self.disk = Disk(self.weather.disk)
        self.witness = Witness(self.disk.driver, is_verbose)
        self.disk.committed = self._committed
        self.disk.torn = self._torn
        self.life: Life | None = None
        self._draws = chance.draws("strokes")
        self._torn_next = 0
        self._bomb = _Bomb(self)
        self._is_paced = draws.random() < 0.15
        self._repeats = draws.choice(list(Repeats))
        self._settings = _settings()
        self._make_server(draws)
        self._move_in(draws)
        self._programs = self._draw_programs(draws)
        self._told: dict[str, int] = {}

    # --- what there is ---

    def _make_server(self, draws: Random) -> None:
        self.server = Server(Options(grace_s=0.5, repeats=self._repeats))
        self.server.faults = self.server.router.faults = self.weather
        numbers = [str(919812345000 + index) for index in range(draws.randint(1, 3))]
        self.linked = [link(self.server, number) for number in numbers]
        strangers = [str(4915100000000 + index) for index in range(draws.randint(1, 3))]
        self.strangers = [self.server.add_account(number, "Friend") for number in strangers]
        router = self.server.router
        take = router.message

        def message(sender: Device, node: Node) -> ServerAnswer:
            self.weather.takes_repeat = node.text("id") in router._sent_ids(sender)
            return take(sender, node)

        router.message = message  # type: ignore[method-assign]

    def _move_in(self, draws: Random) -> None:
        now = datetime.fromtimestamp(self.chance.daemon_time(), UTC)
        unit = Unit(self.disk.driver, VAULT, now)
        users = []
        for index in range(_PARTNERS):
            partner, _ = create_partner(unit, f"Partner {index}", "a@b.example", "b.example")
            users.append((partner.id, create_user(unit, partner.id, "User", "u@b.example").id))
        self.records: list[DeviceRecord] = []
        for index, one in enumerate(self.linked):
            partner_id, user_id = users[index % _PARTNERS]
            record = devices.create_device(unit, partner_id, user_id, f"Device {index}")
            _move_in(unit, record.id, one)
            self.records.append(record)

    def _draw_programs(self, draws: Random) -> list[Program]:
        programs: list[Program] = []
        for device, record in enumerate(self.records):
            peers = [one.number for one in self.linked]
            peers.remove(self.linked[device].number)
            peers += [phone.account.number for phone in self.strangers]
            if draws.random() < 0.1:
                peers.append(_NOBODY)
            # Each chat once: order is promised within a chat.
            for to in draws.sample(peers, min(draws.randint(1, 3), len(peers))):
                number = len(programs)
                programs.append(
                    Program(
                        number,
                        device,
                        record.token,
                        to,
                        self.ask,
                        self.witness,
                        self.chance.draws(f"program {number}"),
                        lambda: self.weather.is_stormy,
                    )
                )
        return programs

    # --- the course of things ---

    async def run(self) -> None:
        """Storm, then rest, then the end."""
        async with trio.open_nursery() as nursery:
            self.network = Network(
                self.weather,
                self.witness.frame,
                nursery,
                self.server.serve,  # type: ignore[arg-type]
            )
            nursery.start_soon(self.server.waker.run)
            nursery.start_soon(self._keep_house)
            nursery.start_soon(self._live_on)
            nursery.start_soon(self._storm)
            with trio.move_on_after(self.weather.storm_s + REST_WITHIN_S):
                async with trio.open_nursery() as programs:
                    for program in self._programs:
                        programs.start_soon(program.run)
                await trio.sleep_until(self.weather.storm_s)
                while not self._is_at_rest():  # noqa: ASYNC110  # nothing tells of it
                    await trio.sleep(1.0)
                await trio.sleep(SETTLE_S)
            await trio.testing.wait_all_tasks_blocked()
            if self.life is None:
                self.witness.accuse(Breach.UNSETTLED, "the daemon does not stay up")
            else:
                await self._judge.look_at_the_living(self.life, self.ask, self._now())
            self.kill()
            nursery.cancel_scope.cancel()

    async def _live_on(self) -> None:
        """Start the daemon, and again whenever it has died."""
        while True:
            self.witness.note("daemon starts")
            try:
                await self._live()
            except* DeathError:
                pass
            except* Exception as group:
                if not self._was_killed:
                    for error in _flat(group):
                        self.witness.accuse(Breach.COMPLAINT, f"the daemon ends: {error!r}")
            if self.life is not None:
                self._die()
            self.counts["deaths"] += 1
            await trio.sleep(self._draws.uniform(0.1, 5.0))

    async def _live(self) -> None:
        """One life of the daemon, as daemon.py wires it."""
        self._was_killed = False
        clock.CLOCK.begin()
        database = SimulatedDatabase(self.disk, utc_now)
        registry, board, outcomes = DeviceRegistry(), StatusBoard(), Outcomes()
        world = DaemonWorld(
            database=database,
            board=board,
            outcomes=outcomes,
            url="wss://simulated/ws/chat",
            root_key=self.server.root_key,
            limits=PacingLimits() if self._is_paced else None,
            bucket=DialBucket(),
            keygen=trio.CapacityLimiter(1),
            converse=self._converse,
        )
        app = create_app(registry, database, board, outcomes, self._settings)
        async with trio.open_nursery() as nursery:
            self.life = Life(database, registry, board, outcomes, app, nursery)
            nursery.start_soon(database.run)
            nursery.start_soon(DeviceSupervisor(registry, world).run)
            await take_over(database)
            nursery.start_soon(Timekeeper(database, registry).run)
            nursery.start_soon(daemon._expire, database, registry, outcomes)
            for record in await database.read(devices.devices_to_run):
                await registry.adopt(record)
            await trio.sleep_forever()

    async def _converse(
        self,
        way: Callable[[], Route],
        make: Callable[[], Connection],
        outgoing: trio.MemoryReceiveChannel[Outgoing],
        bucket: DialBucket,
        report: Report,
    ) -> None:
        assert isinstance(make, partial)
        assert isinstance(make.func, MethodType)
        lines = make.func.__self__
        assert isinstance(lines, Lines)
        owner = f"device {lines._handle.record.id}"

        def tapped() -> Connection:
            return self.witness.tap(owner, make())

        await transport.converse(way, tapped, outgoing, bucket, report)

    async def open_stream(self, route: object) -> object:
        """Stand in for `connector.open_stream`."""
        return await self.network.open_stream(route)

    async def open_websocket(self, stream: Dialling, url: str, **options: object) -> object:
        """Stand in for `websocket.open_websocket`."""
        return await self.network.open_websocket(stream, url, **options)

    async def _keep_house(self) -> None:
        while True:
            await trio.sleep(_HOUSE_S)
            self.server.look_at_deadlines(trio.current_time())

    def _now(self) -> datetime:
        return utc_now()

    # --- what goes wrong ---

    async def _storm(self) -> None:
        async with trio.open_nursery() as nursery:
            for stroke in self.weather.strokes:
                await trio.sleep_until(stroke.at)
                self.witness.note("stroke", stroke.blow.name)
                self.counts[stroke.blow.name.lower()] += 1
                nursery.start_soon(self._strike, stroke)
            await trio.sleep_until(self.weather.storm_s)
            # A blow that would go on for longer would leave the others armed as well.
            nursery.cancel_scope.cancel()
        self.weather.calm()
        self.disk.trouble = None
        self._bomb.left = 0
        self._torn_next = 0
        self.witness.note("calm")

    async def _strike(self, stroke: Stroke) -> None:
        draws, wires = self._draws, self.network.wires
        match stroke.blow:
            case Blow.CRASH:
                # Between any two steps, or around a commit.
                if draws.random() < 0.5:
                    self._torn_next = draws.choice((-1, 1))
                else:
                    self._bomb.set(draws.randint(1, 150))
            case Blow.CUT | Blow.HOLE | Blow.STUCK if wires:
                wire = draws.choice(wires)
                if stroke.blow is Blow.CUT:
                    wire.cut()
                wire.is_hole |= stroke.blow is Blow.HOLE
                wire.is_stuck |= stroke.blow is Blow.STUCK
            case Blow.RESTART | Blow.AGAIN:
                clients = self.server.connected
                if clients:
                    code = 503 if stroke.blow is Blow.RESTART else 515
                    draws.choice(clients).end(stream_error(StreamError(code=code)))
            case Blow.FULL | Blow.BUSY | Blow.SLOW:
                self.disk.trouble = stroke.blow
                await trio.sleep(draws.uniform(0.5, 30.0))
                self.disk.trouble = None
            case Blow.SKEW:
                hours = draws.choice((-20.0, -1.0, -0.01, 0.01, 1.0, 30.0))
                self.chance.skew_s = hours * 3600.0
            case Blow.REPLY:
                self._reply(draws)
            case Blow.READ:
                phone = draws.choice(self.strangers)
                if phone.inbox:
                    phone.read(draws.choice(phone.inbox).id)
            case Blow.UNLINK:
                account = self.server.accounts.by_number(draws.choice(self.linked).number)
                assert account is not None
                for device in list(account.companions):
                    self.server.unlink(device)
            case Blow.LINK:
                number = draws.choice([account.number for account in self.server.accounts])
                link_to(self.server, self.server.phone(number))
            case _:
                pass

    def _reply(self, draws: Random) -> None:
        """Somebody writes to a device."""
        phone, index = draws.choice(self.strangers), draws.randrange(len(self.linked))
        account = self.server.accounts.by_number(self.linked[index].number)
        assert account is not None
        text = f"reply {len(self._told)}"
        self._told[text] = index
        phone.send(account, text)

    def _torn(self) -> int:
        torn, self._torn_next = self._torn_next, 0
        if torn:
            self._die()
        return torn

    def _committed(self) -> None:
        self.counts["commits"] += 1
        self.witness.committed()

    def kill(self) -> None:
        """Kill the daemon now."""
        if self.life is not None:
            self._die()

    def _die(self) -> None:
        assert self.life is not None
        life, self.life = self.life, None
        self._was_killed = True
        self.network.die()
        life.die()

    # --- the front door and the end ---

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Mapping[str, str] | None,
        patience: float,
    ) -> Answer | None:
        """Send a request; None: no answer came."""
        await trio.sleep(self.weather.latency())
        self.counts["requests"] += 1
        if self.life is None:
            return None
        exchange = await self.life.ask(method, path, headers, body, patience)
        self.witness.note("answer", f"{path[-40:]} {exchange.status} {exchange.body!r}")
        self.counts[f"status {exchange.status}"] += 1
        if not exchange.status:
            return None
        answer: Mapping[str, object] = json.loads(exchange.body)
        if exchange.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            self.witness.accuse(Breach.ANSWER, f"500 {answer}")
        await trio.sleep(self.weather.latency())
        return Answer(exchange.status, answer)

    def _is_at_rest(self) -> bool:
        """Whether nothing is under way any more."""
        if self.life is None or any(not row.state.is_settled for row in self.witness.rows.values()):
            return False
        if self.witness.marked:
            return False
        return not any(
            len(device.queue)
            for account in self.server.accounts
            for device in account.devices.values()
            if device.number == PHONE or device.link is not None
        )

    @property
    def _judge(self) -> Judge:
        return Judge(
            witness=self.witness,
            server=self.server,
            records=self.records,
            numbers=[one.number for one in self.linked],
            messages=[message for program in self._programs for message in program.messages],
            told=self._told,
            counts=self.counts,
            forgetful=self.weather.forgetful,
        )

    def judge(self, complaints: Sequence[str]) -> None:
        """Judge it, now that it is over."""
        self._judge.judge(complaints, Unit(self.disk.driver, VAULT, self._now()))


class _Bomb(trio.abc.Instrument):
    """Kills the daemon after so many steps of tasks.

    Attributes:
        left: steps.
    """

    def __init__(self, world: World) -> None:
        self.left = 0
        self._world = world
        self._is_in = False

    def set(self, steps: int) -> None:
        """Begin to count."""
        if not self._is_in:
            trio.lowlevel.add_instrument(self)
            self._is_in = True
        self.left = steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.left:
            self.left -= 1
            if not self.left:
                self._world.witness.note("killed behind a step of", task.name)
                self._world.kill()


_made: list[Settings] = []


def _settings() -> Settings:
    if not _made:
        _made.append(Settings(state_dir=Path("/nowhere")))
    return _made[0]


def _move_in(unit: Unit, device_id: int, one: Linked) -> None:
    paired = one.credentials.paired
    assert paired is not None
    save_credentials(unit, device_id, one.credentials.to_bytes())
    learn_mapping(unit, device_id, paired.jid.user, paired.lid.user, merged)
    devices.set_phone(unit, device_id, paired.jid.user)
    add_prekeys(unit, device_id, [(p.key_id, p.key_pair.private_key) for p in one.prekeys])
    mark_uploaded(unit, device_id, [prekey.key_id for prekey in one.prekeys])


def _flat(group: BaseExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for error in group.exceptions:
        found += _flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
