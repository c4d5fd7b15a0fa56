"""Phone: device 0 of an account, in this process.

It reads QR codes, takes pairing codes, signs companions and greets them. What it has in common with
other devices here, keys, sessions and messages, is endpoint.py.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Final

import trio

from sitpayd.whatsapp.crypto import sign
from sitpayd.whatsapp.errors import (
    RemoteProtocolError,
)
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.stanzas import content as contents
from sitpayd.whatsapp.stanzas import pairing_code
from sitpayd.whatsapp.stanzas.message import IncomingMessage
from sitpayd.whatsapp.stanzas.notification import PasskeyRequested, notification
from sitpayd.whatsapp.stanzas.pairing import make_signed_identity, pair_success, parse_qr_text

from .accounts import PHONE, Account, Device
from .endpoint import Endpoint, Waker, new_id, outgoing
from .faults import FaultKind
from .linking import Linking, Offer, ScanError
from .routing import Router
from .violations import Kind

_KEY_INDEX_LIST_SIGNATURE: Final = b"\x06\x02"


class Phone(Endpoint):
    """One phone."""

    def __init__(
        self,
        account: Account,
        router: Router,
        linkings: Mapping[str, Linking],
        codes: Mapping[str, Linking],
        waker: Waker,
    ) -> None:
        super().__init__(account, PHONE, router, waker, DeviceKeys.generate(), name="phone")
        self._linkings = linkings
        self._codes = codes
        self._app_state_key = contents.AppStateKey(
            secrets.token_bytes(6), secrets.token_bytes(32), int(time.time())
        )
        self.sign_devices()

    # --- linking ---

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
        linking = self._codes.get(self.account.number)
        code = None if linking is None else linking.code
        if linking is None or code is None:
            raise ScanError("no companion waits for a code of this number", "code")
        identity, ephemeral = self.keys.identity, KeyPair.generate()
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
        if self._router.faults.take(self.device, FaultKind.PASSKEY):
            linking.send(notification(secrets.token_hex(8), PasskeyRequested(), t=int(time.time())))
            raise ScanError("the account asks for its passkey")
        number, key_index = self.account.next_number()
        signed = make_signed_identity(
            self.keys.identity,
            companion,
            adv_secret,
            key_index=key_index,
            timestamp=int(time.time()),
            raw_id=self.account.raw_id,
        )
        stanza = pair_success(
            secrets.token_hex(8),
            signed,
            jid=self.account.pn.with_device(number),
            lid=self.account.lid.with_device(number),
            platform=self.account.platform,
            business_name=self.account.business_name,
            t=int(time.time()),
        )
        linking.offer(Offer(self.account, number, key_index, self.keys.identity.public_key, stanza))
        return await linking.outcome()

    def sign_devices(self) -> None:
        """Sign the list of the account's companions anew.

        The prefix of the signature is unverified: neither Baileys nor whatsmeow checks it.
        """
        now = int(time.time())
        indexes = [device.key_index or 0 for device in self.account.companions]
        details = pb.ADVKeyIndexList(
            rawId=self.account.raw_id,
            timestamp=now,
            currentIndex=max(indexes, default=0),
            validIndexes=indexes,
        ).SerializeToString()
        signed = pb.ADVSignedKeyIndexList(
            details=details,
            accountSignature=sign(
                self.keys.identity.private_key, _KEY_INDEX_LIST_SIGNATURE + details
            ),
        )
        self.account.key_index_list = (signed.SerializeToString(), now)

    def welcome(self, device: Device) -> None:
        """Give a new companion its app state key and an empty history.

        Baileys holds all events back for 20 s after its first login unless a history notification
        arrives.
        """
        device.is_welcomed = True
        history = pb.HistorySync(syncType=0).SerializeToString()
        for message in (
            contents.app_state_key_share([self._app_state_key]),
            contents.inline_history_sync(history),
        ):
            enc = self._encrypt(device, message)
            if enc is None:
                return
            sent = outgoing(new_id(), device.pn, [(device.pn, enc)], category="peer")
            self._router.submit(self.device, sent, is_fanout=False)

    def reinstall(self) -> None:
        """Begin with fresh keys, as on a new phone; the server unlinks the companions.

        What is on its way to the old keys cannot be read, and nobody is to blame for it.
        """
        self.keys = DeviceKeys.generate()
        self._sessions.clear()
        self._prekeys.clear()
        self._retries.clear()
        self._met = set()
        self.device.renew(self.keys)
        self._top_up()
        self.sign_devices()

    def _peer_message(self, incoming: IncomingMessage, content: contents.Content) -> None:
        """Tell a companion again what it could not read, as far as it is known here."""
        device = self._router.accounts.device(incoming.sender)
        if content.kind != "phone_request" or device is None:
            return
        known = [(name, self._kept.get(name.id)) for name in content.asked]
        found = [
            contents.kept_message(name, kept.message, kept.t, kept.push_name)
            for name, kept in known
            if kept is not None and self._account(name.chat) is kept.chat
        ]
        enc = self._encrypt(device, contents.placeholder_answer(incoming.id, found))
        if enc is not None:
            sent = outgoing(new_id(), device.pn, [(device.pn, enc)], category="peer")
            self._router.submit(self.device, sent, is_fanout=False)
