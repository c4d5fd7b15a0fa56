"""What a server sees of a ciphertext: its keys and counters, and whether they fit.

A Signal message names its ratchet key and counter in the clear, and a prekey message also the
identity and the prekeys it was made with. So a server without any private key can prove a reused
counter, a foreign identity and a prekey that nobody handed out.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.schema.whatsapp_pb2 import SignalMessage
from sitpayd.whatsapp.signal.session import parse_prekey_message
from sitpayd.whatsapp.stanzas.wire import parse_proto

from .accounts import Device

_VERSION: Final = b"\x33"
_MAC_LEN: Final = 8
_MAX_REMEMBERED: Final = 100_000


class CiphertextLedger:
    """The counters seen lately; one for the whole server."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, bytes] = OrderedDict()

    def faults(self, sender: Device, target: Device, kind: str, body: bytes) -> list[str]:
        """Tell what is wrong with a ciphertext; empty if nothing is."""
        found: list[str] = []
        if kind == "pkmsg":
            try:
                message = parse_prekey_message(body)
            except RemoteProtocolError as error:
                return [f"malformed pkmsg: {error}"]
            if message.identity != sender.identity:
                found.append("pkmsg under an identity that is not the sender's")
            if message.registration_id != sender.registration_id:
                found.append("pkmsg with another registration id than the sender's")
            if message.signed_prekey_id not in target.signed_prekey_ids:
                found.append(f"pkmsg for an unknown signed prekey {message.signed_prekey_id}")
            if message.prekey_id is not None and message.prekey_id not in target.known_prekeys:
                found.append(f"pkmsg for an unknown prekey {message.prekey_id}")
            body = message.message
        elif kind != "msg":
            return [f"enc of an unknown type {kind}"]
        try:
            if self._is_reused(sender, target, body):
                found.append("a ratchet counter was used for two messages")
        except RemoteProtocolError as error:
            found.append(str(error))
        return found

    def _is_reused(self, sender: Device, target: Device, body: bytes) -> bool:
        if body[:1] != _VERSION or len(body) <= 1 + _MAC_LEN:
            raise RemoteProtocolError("not a Signal message of version 3")
        message = parse_proto(SignalMessage, body[1:-_MAC_LEN])
        place = f"{sender.lid}|{target.lid}|{message.counter}|".encode() + message.ratchetKey
        key = hashlib.sha256(place).digest()[:16]
        digest = hashlib.sha256(body).digest()[:16]
        known = self._seen.setdefault(key, digest)
        self._seen.move_to_end(key)
        if len(self._seen) > _MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return known != digest
