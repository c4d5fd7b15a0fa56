"""Linking: one registration connection, from its refs to the companion's signature.

The client's socket holds one and feeds it the companion's reply; the phone that scanned a ref makes
the offer and waits for the outcome. Signing is the phone's, routing the answer is client.py's.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.iq import parse_iq_error
from sitpayd.whatsapp.stanzas.login import Registration
from sitpayd.whatsapp.stanzas.pairing import check_device_signature

from .accounts import Account, Device

# Source: 6 refs in practice, whatsmeow qrchan.go.
REF_COUNT: Final = 6


class ScanError(Exception):
    """A phone could not link a device.

    Attributes:
        field: the field of the request that is wrong; None if it is not the request's fault.
    """

    def __init__(self, text: str, field: str | None = None) -> None:
        super().__init__(text)
        self.field = field


@dataclass(frozen=True, slots=True)
class Offer:
    """What a phone offers to a companion.

    Attributes:
        account_key: the phone's identity key, 32 bytes.
        stanza: the pair-success, whose id the reply repeats.
    """

    account: Account
    number: int
    key_index: int
    account_key: bytes
    stanza: Node


def new_refs() -> tuple[str, ...]:
    """Fresh refs in the form of the real server's."""
    return tuple(
        "2@" + base64.b64encode(secrets.token_bytes(72)).decode().replace(",", "")
        for _ in range(REF_COUNT)
    )


class Linking:
    """The state of one registration connection.

    Attributes:
        noise: the client's Noise static key, 32 bytes.
        refs: what its QR codes may hold.
        send: queues a stanza for the client.
    """

    def __init__(
        self, registration: Registration, noise: bytes, send: Callable[[Node], None]
    ) -> None:
        self.registration = registration
        self.noise = noise
        self.refs = new_refs()
        self.send = send
        self._offer: Offer | None = None
        self._outcome: Device | str | None = None
        self._settled = trio.Event()

    def offer(self, offer: Offer) -> None:
        """Send the pair-success.

        Raises:
            ScanError: If another phone was faster.
        """
        if self._offer is not None:
            raise ScanError("the code was scanned already", "qr")
        self._offer = offer
        self.send(offer.stanza)

    async def outcome(self) -> Device:
        """Wait until the companion has signed; the caller brings the deadline.

        Raises:
            ScanError: If it refused, or its connection is gone.
        """
        await self._settled.wait()
        if isinstance(self._outcome, Device):
            return self._outcome
        raise ScanError(self._outcome or "the companion's connection is gone")

    def accept(self, reply: Node) -> Device | None:
        """Take an answer of the client; return the new device if it completes the linking.

        Raises:
            RemoteProtocolError: If the reply does not verify.
        """
        offer = self._offer
        if offer is None or reply.text("id") != offer.stanza.text("id") or self._settled.is_set():
            return None
        error = parse_iq_error(reply)
        if error is not None:
            self.settle(f"the companion refused: {error.code} {error.text or ''}".rstrip())
            return None
        registration = self.registration
        try:
            full = check_device_signature(reply, offer.account_key, registration.identity)
        except RemoteProtocolError as fault:
            self.settle(f"the companion's reply is wrong: {fault}")
            raise
        device = Device(
            offer.account,
            offer.number,
            identity=registration.identity,
            registration_id=registration.registration_id,
            signed_prekey_id=registration.signed_prekey_id,
            signed_prekey=registration.signed_prekey,
            signature=registration.signature,
            noise=self.noise,
            key_index=offer.key_index,
            signed_identity=full,
            name=registration.os_name,
        )
        offer.account.devices[device.number] = device
        self.settle(device)
        return device

    @property
    def is_settled(self) -> bool:
        """Whether the outcome is known."""
        return self._settled.is_set()

    @property
    def offered(self) -> Jid | None:
        """The device that was offered, if one was."""
        offer = self._offer
        return None if offer is None else offer.account.pn.with_device(offer.number)

    def settle(self, outcome: Device | str) -> None:
        """Decide the outcome, unless it is decided."""
        if not self._settled.is_set():
            self._outcome = outcome
            self._settled.set()
