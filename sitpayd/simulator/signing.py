"""Signer: the hand of a phone's owner that links companions and signs their list.

It reads QR codes and takes pairing codes. What phone and companions say to each other afterwards is
phone.py.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Final

import trio

from sitpayd.whatsapp.crypto import sign
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.stanzas import pairing_code
from sitpayd.whatsapp.stanzas.notification import PasskeyRequested, notification
from sitpayd.whatsapp.stanzas.pairing import make_signed_identity, pair_success, parse_qr_text

from .accounts import Account, Device
from .faults import FaultKind
from .linking import Linking, Offer, ScanError
from .routing import Router
from .violations import Kind

_KEY_INDEX_LIST_SIGNATURE: Final = b"\x06\x02"


class Signer:
    """What one account's phone links with.

    Args:
        identity: the phone's identity key.
        linkings: registrations that wait for a phone, by ref.
        codes: those that show a pairing code, by the number it is for.
    """

    def __init__(
        self,
        account: Account,
        identity: KeyPair,
        router: Router,
        linkings: Mapping[str, Linking],
        codes: Mapping[str, Linking],
    ) -> None:
        self._account = account
        self.identity = identity
        self._router = router
        self._linkings = linkings
        self._codes = codes

    async def scan(self, qr_text: str) -> Device:
        """Link the device whose QR text this is; the caller brings the deadline.

        Raises:
            ScanError: If it is no such text, nobody waits for it, or the companion refused.
        """
        try:
            qr = parse_qr_text(qr_text)
        except RemoteProtocolError as error:
            raise ScanError(str(error), "qr") from error
        linking = self._linkings.get(qr.ref)
        if linking is None:
            raise ScanError("no connection waits for this code", "qr")
        if qr.noise != linking.noise:
            raise ScanError("the code names another Noise key than its connection", "qr")
        if qr.identity != linking.registration.identity:
            self._router.violations.record(
                "registration", Kind.PAIRING, "the QR code names another identity than the payload"
            )
        return await self._link(linking, qr.identity, qr.adv_secret)

    async def enter_code(self, text: str) -> Device:
        """Link the device that shows this code for our number; the caller brings the deadline.

        Raises:
            ScanError: If it is no code, nobody waits for it, it is another one, or the companion
                refused.
        """
        try:
            typed = pairing_code.parse_code(text)
        except RemoteProtocolError as error:
            raise ScanError(str(error), "code") from error
        linking = self._codes.get(self._account.number)
        code = None if linking is None else linking.code
        if linking is None or code is None:
            raise ScanError("no companion waits for a code of this number", "code")
        identity, ephemeral = self.identity, KeyPair.generate()
        companion, hello = await trio.to_thread.run_sync(
            pairing_code.answer_hello,
            typed,
            code.hello.wrapped,
            code.ref,
            ephemeral,
            identity.public_key,
        )
        finish = await linking.introduce(code, hello)
        try:
            adv_secret = pairing_code.open_finish(finish, companion, ephemeral, identity)
        except RemoteProtocolError as error:
            raise ScanError("the companion shows another code", "code") from error
        return await self._link(linking, finish.identity, adv_secret)

    async def _link(self, linking: Linking, companion: bytes, adv_secret: bytes) -> Device:
        """Sign the companion with this identity key, and wait for what it says."""
        if self._router.faults.take(self._account.phone, FaultKind.PASSKEY):
            linking.send(notification(secrets.token_hex(8), PasskeyRequested(), t=int(time.time())))
            raise ScanError("the account asks for its passkey")
        number, key_index = self._account.next_number()
        signed = make_signed_identity(
            self.identity,
            companion,
            adv_secret,
            key_index=key_index,
            timestamp=int(time.time()),
            raw_id=self._account.raw_id,
        )
        stanza = pair_success(
            secrets.token_hex(8),
            signed,
            jid=self._account.pn.with_device(number),
            lid=self._account.lid.with_device(number),
            platform=self._account.platform,
            business_name=self._account.business_name,
            t=int(time.time()),
        )
        linking.offer(Offer(self._account, number, key_index, self.identity.public_key, stanza))
        return await linking.outcome()

    def sign_devices(self) -> None:
        """Sign the list of the account's companions anew.

        The prefix of the signature is unverified: neither Baileys nor whatsmeow checks it.
        """
        now = int(time.time())
        indexes = [device.key_index or 0 for device in self._account.companions]
        details = pb.ADVKeyIndexList(
            rawId=self._account.raw_id,
            timestamp=now,
            currentIndex=max(indexes, default=0),
            validIndexes=indexes,
        ).SerializeToString()
        signed = pb.ADVSignedKeyIndexList(
            details=details,
            accountSignature=sign(self.identity.private_key, _KEY_INDEX_LIST_SIGNATURE + details),
        )
        self._account.key_index_list = (signed.SerializeToString(), now)
