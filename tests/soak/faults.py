"""What goes wrong in a soak, drawn for one device after the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from sitpayd.simulator.accounts import Device
from sitpayd.simulator.client import Client
from sitpayd.simulator.faults import Fault, FaultKind
from sitpayd.simulator.server import Server
from sitpayd.whatsapp.stanzas.failure import StreamError, stream_error

# A daemon asks twice, then the connection is dead: as many answers are lost.
PINGS_LOST: Final = 2
HALF_OPEN_WITHIN_S: Final = 70.0
UNAVAILABLE: Final = 503


@dataclass(frozen=True, slots=True)
class Blow:
    """One thing that goes wrong.

    Attributes:
        strike: does it to a connected device.
        unnoticed_s: how long the daemon may go on to call the device connected.
        needs_a_person: the device rests until somebody resumes it.
    """

    strike: Callable[[Server, Device, Client], Awaitable[None]]
    unnoticed_s: float = 0.0
    needs_a_person: bool = False


async def _drop(_: Server, __: Device, client: Client) -> None:
    await client.drop()


async def _swallow(server: Server, device: Device, _: Client) -> None:
    server.faults.add(_fault(FaultKind.LOSE_IQ, device, count=PINGS_LOST))


async def _refuse_login(server: Server, device: Device, client: Client) -> None:
    server.faults.add(_fault(FaultKind.FAIL_LOGIN, device, code=UNAVAILABLE))
    await client.drop()


async def _garble(server: Server, device: Device, client: Client) -> None:
    server.faults.add(_fault(FaultKind.GARBLE, device))
    client.ping()


def _ends_with(error: StreamError) -> Callable[[Server, Device, Client], Awaitable[None]]:
    async def end(_: Server, __: Device, client: Client) -> None:
        client.end(stream_error(error))

    return end


def _fault(kind: FaultKind, device: Device, *, count: int = 1, code: int = 500) -> Fault:
    return Fault(kind, device.account.number, device.number, count=count, code=code)


BLOWS: Final[dict[str, Blow]] = {
    "drop": Blow(_drop),
    "half_open": Blow(_swallow, unnoticed_s=HALF_OPEN_WITHIN_S),
    "server_restart": Blow(_ends_with(StreamError(503))),
    "restart_required": Blow(_ends_with(StreamError(515))),
    "replaced": Blow(_ends_with(StreamError(conflict="replaced")), needs_a_person=True),
    "login_unavailable": Blow(_refuse_login),
    "garbled_frame": Blow(_garble),
}


def draw(random: Random) -> tuple[str, Blow]:
    """Draw the next one."""
    name = random.choice(sorted(BLOWS))
    return name, BLOWS[name]
