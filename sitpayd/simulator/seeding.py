"""Seeding: companions that were linked before anything began, without a socket.

The companion's side is played here, with real keys and through the same linking as everybody's; who
asked gets what such a companion remembers. That brings thousands of devices for a client under test
in seconds, where linking each over its own connection takes an hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.login import (
    ClientInfo,
    Registration,
    parse_client_payload,
    registration_payload,
)
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity, accept_pair_success, qr_text

from .linking import Linking
from .phone import Phone
from .server import Server

# Enough that a client is not told that few are left.
PREKEYS: Final = 12


@dataclass(frozen=True, slots=True)
class Seeded:
    """What a seeded companion remembers; the server has its prekeys already."""

    credentials: Credentials
    prekeys: tuple[PreKey, ...]


async def seed_companion(server: Server, phone: Phone) -> Seeded:
    """Link a companion of our own making to a phone, as one that has been at work for long."""
    keys = DeviceKeys.generate()
    payload = parse_client_payload(registration_payload(keys, ClientInfo()))
    assert isinstance(payload, Registration)
    paired: list[PairedIdentity] = []

    def answer(offered: Node) -> None:
        identity, reply = accept_pair_success(offered, keys)
        paired.append(identity)
        device = linking.accept(reply)
        assert device is not None
        server.linked(device)

    linking = Linking(payload, keys.noise.public_key, answer)
    server.begin_linking(linking)
    try:
        device = await phone.scan(qr_text(linking.refs[0], keys))
    finally:
        server.end_linking(linking)
    prekeys = tuple(PreKey(key_id, KeyPair.generate()) for key_id in range(1, PREKEYS + 1))
    for prekey in prekeys:
        public_key = prekey.key_pair.public_key
        device.prekeys[prekey.key_id] = device.known_prekeys[prekey.key_id] = public_key
    # Its phone has sent it keys and history long ago.
    device.is_welcomed = True
    return Seeded(Credentials(keys, paired[0]), prekeys)
