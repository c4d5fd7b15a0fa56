"""A scene: a simulated WhatsApp with people and linked devices, made without an event loop.

A process that opens nothing can make one and fork: every child then has the same keys and the same
ratchets, on either side. Linking here is the real one, only that nothing goes over a socket.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import trio
from websockets.trio.server import serve

from sitpayd.actors.shelf import merged
from sitpayd.simulator.linking import Linking, Offer
from sitpayd.simulator.options import Options
from sitpayd.simulator.phone import Phone
from sitpayd.simulator.server import Server
from sitpayd.storage import devices, sessions
from sitpayd.storage.database import Unit, open_database
from sitpayd.storage.partners import create_partner, create_user
from sitpayd.storage.records import DeviceRecord
from sitpayd.storage.vault import Vault
from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import pairing
from sitpayd.whatsapp.stanzas.login import (
    ClientInfo,
    Registration,
    parse_client_payload,
    registration_payload,
)

SECRET: Final = b"s" * 32
FRIEND: Final = "919876543210"
_FIRST_OWNER: Final = 919812345000
# Enough that no daemon here makes more of them.
_PREKEYS: Final = 30


@dataclass(frozen=True)
class Linked:
    """A linked device: what the daemon has to know of it.

    Attributes:
        number: of its account.
    """

    number: str
    credentials: Credentials
    prekeys: tuple[PreKey, ...]


@dataclass(frozen=True)
class Scene:
    """A server, the phone of a friend, and linked devices.

    Attributes:
        taken: every message stanza the server got, encoded, by id and in order.
    """

    server: Server
    friend: Phone
    linked: tuple[Linked, ...]
    taken: dict[str, list[bytes]] = field(default_factory=dict)

    @classmethod
    def make(cls, devices: int = 1) -> Scene:
        """Make one with so many devices, each of an account of its own."""
        server = Server(Options(grace_s=0.05))
        friend = server.add_account(FRIEND, "Friend")
        numbers = [str(_FIRST_OWNER + index) for index in range(devices)]
        scene = cls(server, friend, tuple(link(server, number) for number in numbers))
        route = server.router.message

        def message(sender: object, node: Node) -> object:
            scene.taken.setdefault(node.required_text("id"), []).append(encode(node))
            return route(sender, node)  # type: ignore[arg-type]  # handed through

        server.router.message = message  # type: ignore[assignment, method-assign]
        return scene

    async def serve(self, listening: socket.socket) -> None:
        """Be the server on a listening socket, until cancelled."""
        async with trio.open_nursery() as nursery:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
            await nursery.start(
                partial(
                    serve,
                    self.server.serve,
                    listeners=[listener],
                    compression=None,
                    ping_interval=None,
                    close_timeout=1,
                    max_size=2**24 + 16,
                )
            )
            nursery.start_soon(self.server.keep_house)
            nursery.start_soon(self.server.waker.run)

    async def move_in(self, url: str) -> list[DeviceRecord]:
        """Make a database that knows the devices."""
        async with open_database(url, Vault(SECRET)) as database:
            return await database.write(_move_in, self.linked)


def listen() -> tuple[socket.socket, str]:
    """A listening socket on loopback, and the URL that a daemon dials to reach it."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    listening.setblocking(False)
    return listening, f"ws://127.0.0.1:{listening.getsockname()[1]}/ws/chat"


def link(server: Server, number: str) -> Linked:
    """Link a device of a new account without a socket; it has all its prekeys up."""
    return link_to(server, server.add_account(number, "Owner"))


def link_to(server: Server, phone: Phone) -> Linked:
    """Link a device to a phone without a socket; it has all its prekeys up."""
    account, keys = phone.account, DeviceKeys.generate()
    registration = parse_client_payload(registration_payload(keys, ClientInfo()))
    assert isinstance(registration, Registration)
    said: list[Node] = []
    linking = Linking(registration, keys.noise.public_key, said.append)
    device_number, key_index = account.next_number()
    signed = pairing.make_signed_identity(
        phone.keys.identity,
        keys.identity.public_key,
        keys.adv_secret,
        key_index=key_index,
        timestamp=int(time.time()),
        raw_id=account.raw_id,
    )
    offered = pairing.pair_success(
        "offer",
        signed,
        jid=account.pn.with_device(device_number),
        lid=account.lid.with_device(device_number),
        platform=account.platform,
        t=int(time.time()),
    )
    linking.offer(Offer(account, device_number, key_index, phone.keys.identity.public_key, offered))
    paired, reply = pairing.accept_pair_success(said[0], keys)
    device = linking.accept(reply)
    assert device is not None
    server.linked(device)
    device.is_welcomed = True
    prekeys = tuple(PreKey(number, KeyPair.generate()) for number in range(1, _PREKEYS + 1))
    for prekey in prekeys:
        device.prekeys[prekey.key_id] = prekey.key_pair.public_key
        device.known_prekeys[prekey.key_id] = prekey.key_pair.public_key
    return Linked(account.number, Credentials(keys, paired), prekeys)


def _move_in(unit: Unit, linked: Sequence[Linked]) -> list[DeviceRecord]:
    partner, _ = create_partner(unit, "ABC Reseller", "abc@reseller.com", "api.reseller.com")
    user = create_user(unit, partner.id, "John Doe", "john@example.com")
    records = []
    for one in linked:
        paired = one.credentials.paired
        assert paired is not None
        record = devices.create_device(unit, partner.id, user.id, "John iPhone")
        sessions.save_credentials(unit, record.id, one.credentials.to_bytes())
        sessions.learn_mapping(unit, record.id, paired.jid.user, paired.lid.user, merged)
        devices.set_phone(unit, record.id, paired.jid.user)
        stored = [(prekey.key_id, prekey.key_pair.private_key) for prekey in one.prekeys]
        sessions.add_prekeys(unit, record.id, stored)
        sessions.mark_uploaded(unit, record.id, [key_id for key_id, _ in stored])
        records.append(record)
    return records
