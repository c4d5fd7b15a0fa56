"""Linking: one registration connection, from its refs to the companion's signature.

The client's socket holds one and feeds it the companion's reply; the phone that scanned a ref, or
whose person typed the companion's code, makes the offer and waits for the outcome. Signing is the
phone's, routing the answer is client.py's.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, pairing_code
from sitpayd.whatsapp.stanzas.iq import parse_iq_error
from sitpayd.whatsapp.stanzas.login import Registration
from sitpayd.whatsapp.stanzas.pairing import check_device_signature
from sitpayd.whatsapp.stanzas.pairing_code import CompanionFinish, CompanionHello, PrimaryHello

from .accounts import Account, Device

# Source: 6 refs in practice, whatsmeow qrchan.go.
REF_COUNT: Final = 6
_CODE_REF_LEN: Final = 24
# The server refuses others with 400: a well-known browser on a well-known system. The lists are a
# guess from reports; that the form is checked is known. Source: whatsmeow pair-code.go.
_DISPLAY: Final = re.compile(
    r"(Chrome|Edge|Firefox|Opera|Safari) \((Mac OS|Windows|Linux|Ubuntu|Android)\)"
)


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


class ShownCode:
    """A companion's code, from its hello to its answer.

    Attributes:
        ref: names this attempt.
        hello: what the companion said.
        primary: the phone's identity key, once the code is typed.
        finish: the companion's answer to that.
        settled: set with the answer, or when there will be none.
    """

    def __init__(self, hello: CompanionHello) -> None:
        self.ref = b"3@" + base64.b64encode(secrets.token_bytes(_CODE_REF_LEN))
        self.hello = hello
        self.primary: bytes | None = None
        self.finish: CompanionFinish | None = None
        self.settled = trio.Event()


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
        send: queues a stanza for the client, which has to answer it.
        code: the code that the companion shows, until it is used up; the last one counts.
        asked_for_code: whether there was one.
    """

    def __init__(
        self, registration: Registration, noise: bytes, send: Callable[[Node], None]
    ) -> None:
        self.registration = registration
        self.noise = noise
        self.refs = new_refs()
        self.send = send
        self.code: ShownCode | None = None
        self.asked_for_code = False
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

    # --- by code ---

    def companion(self, node: Node) -> tuple[Node, str | None]:
        """Take a companion's request about a code; return the answer, and what is wrong with it.

        Raises:
            RemoteProtocolError: If it is malformed.
        """
        match pairing_code.parse_companion(node):
            case CompanionHello() as hello:
                return self._hello(node, hello)
            case finish:
                return self._finish(node, finish)

    def _hello(self, node: Node, hello: CompanionHello) -> tuple[Node, str | None]:
        if hello.noise != self.noise:
            return _refused(node), "a pairing code names another Noise key than its connection"
        if not _DISPLAY.fullmatch(hello.display):
            # The server says no more than that; it is no crime.
            return _refused(node), None
        self._forget_code()
        self.code = ShownCode(hello)
        self.asked_for_code = True
        return pairing_code.ref_answer(node, self.code.ref), None

    def _finish(self, node: Node, finish: CompanionFinish) -> tuple[Node, str | None]:
        code = self.code
        if code is None or code.primary is None or finish.ref != code.ref or code.finish:
            return _refused(node), "an answer to a pairing code that nobody typed"
        if finish.identity != self.registration.identity:
            return _refused(node), "a pairing code names another identity than the payload"
        code.finish = finish
        code.settled.set()
        return iq.result(node), None

    async def introduce(self, code: ShownCode, hello: PrimaryHello) -> CompanionFinish:
        """Tell the companion that its code was typed; wait for its answer.

        Raises:
            ScanError: If the code was typed before, or is replaced, or the connection is gone.
        """
        if code.primary is not None or code is not self.code:
            raise ScanError("the code was typed already", "code")
        code.primary = hello.identity
        self.send(pairing_code.primary_hello(secrets.token_hex(8), hello, t=int(time.time())))
        await code.settled.wait()
        if code.finish is None:
            raise ScanError("the companion's connection is gone")
        return code.finish

    def _forget_code(self) -> None:
        if self.code is not None:
            self.code.settled.set()
            self.code = None

    # --- the outcome ---

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
    def has_name(self) -> bool:
        """Whether the client may have a name for its account: by a code, or as a business."""
        offer = self._offer
        is_business = offer is not None and offer.account.business_name is not None
        return self.asked_for_code or is_business

    @property
    def offered(self) -> Jid | None:
        """The device that was offered, if one was."""
        offer = self._offer
        return None if offer is None else offer.account.pn.with_device(offer.number)

    def settle(self, outcome: Device | str) -> None:
        """Decide the outcome, unless it is decided."""
        self._forget_code()
        if not self._settled.is_set():
            self._outcome = outcome
            self._settled.set()


def _refused(node: Node) -> Node:
    return iq.error(node, 400, "bad-request")
