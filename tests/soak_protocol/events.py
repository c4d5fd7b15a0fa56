"""What happens meanwhile: a deck of cards, shuffled from the seed and dealt anew when it is empty.

So every kind comes in a short run, too, and as often as its weight says. An event that finds nobody
to happen to (who is not connected cannot be cut off) is counted as missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final

import httpx
import trio

from tests.peers.process import PeerError
from tests.soak_protocol.cast import Cast
from tests.soak_protocol.conversation import Talk
from tests.torture.processes import Keeper

# An event that is not over by then has failed.
EVENT_S: Final = 150.0
STOP_S: Final = 25.0
READY_S: Final = 60.0
OUTAGE_S: Final = (0.5, 6.0)
DELAY_S: Final = (0.2, 3.0)
REFUSES_S: Final = (2.0, 15.0)
RESTS_S: Final = (0.5, 4.0)
# WhatsApp gives a device ten rounds of codes an hour, and few people change phones oftener.
RELINK_EACH_S: Final = 480.0
MAX_COMPANIONS: Final = 4
BAILEYS_S: Final = 15.0
MISSED: Final = "missed"
UNKNOWN_NOTICES: Final = ("psa", "mystery", "server_sync", "pay")


@dataclass(slots=True)
class World:
    """What events work with.

    Attributes:
        heavy: one at a time of those that stop the daemon, or need it for long.
        failed: events that did not come to their end.
    """

    cast: Cast
    talk: Talk
    keeper: Keeper
    heavy: trio.Lock = field(default_factory=trio.Lock)
    counts: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    async def ask(self, method: str, path: str, **body: object) -> bool:
        """Ask the simulator; whether it was able to."""
        return (await self.cast.server.ask(method, path, **body)).is_success

    async def deal(self, seed: int, mean_s: float, nursery: trio.Nursery) -> None:
        """Let one thing after the other happen, until cancelled."""
        random = Random(f"{seed} events")
        deck: list[str] = []
        while True:
            if not deck:
                deck = [name for name, event in EVENTS.items() for _ in range(event.weight)]
                random.shuffle(deck)
            await trio.sleep(random.expovariate(1.0 / mean_s))
            nursery.start_soon(self._happen, deck.pop(), Random(random.random()))

    async def _happen(self, name: str, random: Random) -> None:
        try:
            with trio.fail_after(EVENT_S):
                did = await EVENTS[name].happen(self, random)
                self.counts[name if did else MISSED] += 1
        except trio.TooSlowError:
            self.failed.append(name)


Happen = Callable[[World, Random], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Event:
    """One kind; `weight` cards of it lie in the deck. `happen` tells whether it did."""

    happen: Happen
    weight: int = 1


# --- on the wire ---


def _fault(kind: str, *, cuts: bool = False, also_baileys: bool = False, **more: object) -> Happen:
    """Something goes wrong with the next stanza or frame it concerns.

    Args:
        cuts: the socket is cut, since it concerns the next connection.
    """

    async def happen(world: World, random: Random) -> bool:
        client = random.choice(world.cast.clients if also_baileys else world.cast.ours)
        fields = {name: _drawn(value, random) for name, value in more.items()}
        did = await world.ask("POST", "/faults", kind=kind, device=client.jid, **fields)
        if did and cuts:
            await world.ask("POST", f"/devices/{client.jid}/drop")
        return did

    return happen


def _drawn(value: object, random: Random) -> object:
    return random.uniform(*value) if isinstance(value, tuple) else value


def _person_fault(kind: str, most: int = 1, **more: object) -> Happen:
    """Something goes wrong with a person's phone, so many times in a row at most."""

    async def happen(world: World, random: Random) -> bool:
        person = random.choice(world.cast.people)
        count = random.randint(1, most)
        waiting = await world.cast.server.get("/faults")
        # Who is refused keys twice for one message does without: the faults must not gather.
        if any((one["kind"], one["number"]) == (kind, person.number) for one in waiting):
            return False
        return await world.ask(
            "POST", "/faults", kind=kind, device=f"{person.number}:0", count=count, **more
        )

    return happen


async def _cut(world: World, random: Random) -> bool:
    client = random.choice(world.cast.clients)
    return await world.ask("POST", f"/devices/{client.jid}/drop")


async def _outage(world: World, random: Random) -> bool:
    return await world.ask("POST", "/outage", seconds=random.uniform(*OUTAGE_S))


def _stream_error(code: int) -> Happen:
    async def happen(world: World, random: Random) -> bool:
        ours = random.choice(world.cast.ours)
        return await world.ask("POST", f"/devices/{ours.jid}/stream-error", code=code)

    return happen


async def _replace(world: World, random: Random) -> bool:
    ours = random.choice(world.cast.ours)
    did = await world.ask("POST", f"/devices/{ours.jid}/stream-error", conflict="replaced")
    await trio.sleep(random.uniform(*RESTS_S))
    await ours.operate("POST", "/resume")
    return did


async def _renew_keys(world: World, random: Random) -> bool:
    return await world.ask("POST", "/keys")


async def _resumption(world: World, random: Random) -> bool:
    choice = random.choice(("accept", "refuse", "ignore"))
    return await world.ask("PATCH", "/options", resumption=choice)


async def _props(world: World, random: Random) -> bool:
    return await world.ask("PUT", "/props", **{"10518": random.choice(("true", "false"))})


async def _dirty(world: World, random: Random) -> bool:
    ours, kind = random.choice(world.cast.ours), random.choice(("account_sync", "groups"))
    return await world.ask("POST", f"/devices/{ours.jid}/dirty", type=kind)


async def _notice(world: World, random: Random) -> bool:
    client = random.choice(world.cast.clients)
    kind = random.choice(UNKNOWN_NOTICES)
    path = f"/devices/{client.jid}/notifications"
    return await world.ask("POST", path, type=kind, content=[{"tag": "update"}])


# --- people, their phones and companions ---


async def _reinstall(world: World, random: Random) -> bool:
    """Somebody without a client of ours begins on a new phone."""
    clients = {one.screen.person.number for one in world.cast.clients}
    free = [person for person in world.cast.people if person.number not in clients]
    await world.cast.reinstall(random.choice(free))
    return True


async def _relink(world: World, random: Random) -> bool:
    """The owner of a device begins on a new phone; the device is linked again."""
    ours = random.choice(world.cast.ours)
    async with world.heavy:
        if ours.rests or trio.current_time() - ours.linked_at < RELINK_EACH_S:
            return False
        ours.rests = True
        await ours.read(world.cast.book)
        await world.cast.reinstall(ours.screen.person)
        await ours.link()
        ours.rests = False
    return True


async def _add_companion(world: World, random: Random) -> bool:
    person = random.choice(world.cast.people)
    if len(world.cast.companions) >= MAX_COMPANIONS:
        return False
    await world.cast.add_companion(person)
    return True


async def _remove_companion(world: World, random: Random) -> bool:
    if not world.cast.companions:
        return False
    await world.cast.remove_companion(random.choice(world.cast.companions))
    return True


async def _reveal(world: World, random: Random) -> bool:
    """Whose LID was hidden is hidden no more, and phones tell the mappings they know."""
    if not world.cast.hidden:
        return False
    person = random.choice(sorted(world.cast.hidden, key=lambda one: one.number))
    world.cast.hidden.discard(person)
    return await world.ask("PATCH", f"/accounts/{person.number}", lid_is_hidden=False)


def _tell(what: str, **more: object) -> Happen:
    async def happen(world: World, random: Random) -> bool:
        person = random.choice(world.cast.people)
        return await world.ask("POST", f"/accounts/{person.number}/tell", what=what, **more)

    return happen


async def _refuse_lid(world: World, random: Random) -> bool:
    """For some seconds the server takes what is addressed to somebody's number alone."""
    path = f"/accounts/{random.choice(world.cast.people).number}"
    await world.ask("PATCH", path, lid_refusal=479)
    await trio.sleep(random.uniform(*REFUSES_S))
    return await world.ask("PATCH", path, lid_refusal=None)


# --- what people show each other ---


async def _phone_reads(world: World, random: Random) -> bool:
    phone = random.choice(world.cast.phones)
    heard = [item.id for item in phone.screen.shown if not item.from_me]
    path = f"{phone.path}/read"
    return bool(heard) and await world.ask("POST", path, id=random.choice(heard[-20:]))


async def _phone_shows(world: World, random: Random) -> bool:
    phone, to = random.choice(world.cast.phones), random.choice(world.cast.people)
    available = random.random() < 0.7
    await world.ask("POST", f"{phone.path}/presence", available=available)
    state = random.choice(("composing", "recording", "paused"))
    return await world.ask("POST", f"{phone.path}/typing", to=to.number, state=state)


async def _ours_show(world: World, random: Random) -> bool:
    ours, to = random.choice(world.cast.ours), random.choice(world.cast.people)
    presence = random.choice(("available", "available", "unavailable"))
    post = ours.device.partner.http.post
    with suppress(httpx.TransportError):
        await post(f"{ours.base}/presence", json={"presence": presence})
        body = {"to": to.number, "state": random.choice(("composing", "recording", "paused"))}
        return (await post(f"{ours.base}/typing", json=body)).is_success
    return False


async def _ours_read(world: World, random: Random) -> bool:
    ours = random.choice(world.cast.ours)
    with suppress(httpx.TransportError):
        http = ours.device.partner.http
        listed = await http.get(f"{ours.base}/messages?limit=200")
        incoming = [item for item in listed.json()["messages"] if item["direction"] == "in"]
        if incoming:
            path = f"{ours.base}/messages/{random.choice(incoming)['message_id']}/read"
            return (await http.post(path)).is_success
    return False


async def _baileys_shows(world: World, random: Random) -> bool:
    if not world.cast.homes:
        return False
    home = random.choice(world.cast.homes)
    to = random.choice(world.cast.people)
    jid = f"{to.number}@s.whatsapp.net"
    heard = [item for item in home.screen.shown if not item.from_me]
    peer = home.peer
    if peer is None or not home.is_open:
        return False
    try:
        with trio.move_on_after(BAILEYS_S):
            await peer.appear(available=True)
            await peer.subscribe(jid)
            await peer.type(jid, random.choice(("composing", "paused")))
            if heard:
                item = random.choice(heard[-10:])
                await peer.read(item.chat, item.id)
    except PeerError:
        return False
    return True


# --- the daemon and its devices ---


async def _kill_daemon(world: World, random: Random) -> bool:
    async with world.heavy:
        await world.keeper.kill()
    return True


async def _kill_daemon_as_it_starts(world: World, random: Random) -> bool:
    async with world.heavy:
        await world.keeper.kill()
        await world.keeper.alive()
        await trio.sleep(random.uniform(0.0, 3.0))
        await world.keeper.kill()
    return True


async def _restart_daemon(world: World, random: Random) -> bool:
    async with world.heavy:
        # Before it is ready it knows nothing of signals.
        with trio.fail_after(READY_S):
            await world.cast.ours[0].status()
        if not await world.keeper.stop(STOP_S):
            world.failed.append("the daemon did not stop")
    return True


async def _restart_baileys(world: World, random: Random) -> bool:
    if not world.cast.homes:
        return False
    random.choice(world.cast.homes).restart()
    return True


def _operate(operation: str) -> Happen:
    async def happen(world: World, random: Random) -> bool:
        ours = random.choice(world.cast.ours)
        told = await ours.operate("POST", f"/{operation}")
        return told.get("type") == "success"

    return happen


async def _pause(world: World, random: Random) -> bool:
    ours = random.choice(world.cast.ours)
    await ours.operate("POST", "/pause")
    await trio.sleep(random.uniform(*RESTS_S))
    told = await ours.operate("POST", "/resume")
    return told.get("type") == "success"


EVENTS: Final[Mapping[str, Event]] = {
    # of a message on its way to the server
    "lose": Event(_fault("lose")),
    "lose_ack": Event(_fault("lose_ack", also_baileys=True)),
    "repeat_ack": Event(_fault("repeat_ack")),
    "delay_ack": Event(_fault("delay_ack", seconds=DELAY_S)),
    "drop_before": Event(_fault("drop_before", also_baileys=True), weight=3),
    "drop_after": Event(_fault("drop_after", also_baileys=True), weight=3),
    "server_error": Event(_fault("nack", code=500)),
    "server_busy": Event(_fault("nack", code=503)),
    # on its way to the client
    "repeat_message": Event(_fault("repeat_message", also_baileys=True), weight=2),
    "lose_notification": Event(_fault("lose_notification"), weight=2),
    "garble": Event(_fault("garble")),
    "split": Event(_fault("split")),
    "join": Event(_fault("join")),
    # of requests and logins
    "refuse_bundle": Event(_person_fault("refuse_bundle", code=406)),
    "refuse_devices": Event(_person_fault("refuse_devices")),
    "refuse_iq": Event(_fault("refuse_iq")),
    "lose_iq": Event(_fault("lose_iq")),
    "no_digest": Event(_fault("no_digest", cuts=True)),
    "no_offline_end": Event(_fault("no_offline_end", cuts=True)),
    "refuse_routing": Event(_fault("refuse_routing", cuts=True)),
    "fail_login": Event(_fault("fail_login", cuts=True, code=503)),
    # connections
    "cut": Event(_cut, weight=4),
    "outage": Event(_outage, weight=2),
    "stream_error_503": Event(_stream_error(503)),
    "stream_error_515": Event(_stream_error(515)),
    "replace": Event(_replace),
    "renew_keys": Event(_renew_keys),
    "resumption": Event(_resumption),
    "props": Event(_props),
    "dirty": Event(_dirty),
    "notice": Event(_notice),
    # what cannot be read
    "corrupt": Event(_person_fault("corrupt", most=2), weight=4),
    "forget": Event(_person_fault("forget", most=2), weight=4),
    # people
    "reinstall": Event(_reinstall, weight=2),
    "relink": Event(_relink, weight=2),
    "add_companion": Event(_add_companion, weight=3),
    "remove_companion": Event(_remove_companion, weight=2),
    "reveal": Event(_reveal),
    "tell_lids": Event(_tell("lids")),
    "tell_history": Event(_tell("history")),
    "tell_history_by_media": Event(_tell("history", by="media", filler=2000)),
    "tell_keys": Event(_tell("keys")),
    "refuse_lid": Event(_refuse_lid),
    "phone_reads": Event(_phone_reads, weight=2),
    "phone_shows": Event(_phone_shows, weight=2),
    "device_reads": Event(_ours_read, weight=2),
    "device_shows": Event(_ours_show, weight=2),
    "baileys_shows": Event(_baileys_shows, weight=2),
    # programs
    "kill_daemon": Event(_kill_daemon),
    "kill_daemon_as_it_starts": Event(_kill_daemon_as_it_starts),
    "restart_daemon": Event(_restart_daemon, weight=2),
    "restart_baileys": Event(_restart_baileys, weight=2),
    "pause": Event(_pause),
    "reconnect": Event(_operate("reconnect")),
    "restart_device": Event(_operate("restart")),
}
