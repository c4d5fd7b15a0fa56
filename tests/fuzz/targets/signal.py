"""Signal messages into a live session, from a stranger in the middle and from the peer itself.

An input is a scene, numbers for it, and a body. In the first two scenes the body is a message that
somebody changed; in the third it is the inside of one, and the peer puts its MAC under it, with a
counter as far away as the numbers say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from itertools import cycle
from random import Random
from typing import Final

from sitpayd.whatsapp.crypto import aes_cbc_encrypt, hkdf, hmac_sha256
from sitpayd.whatsapp.errors import DecryptError, DuplicateMessageError, FutureMessageError
from sitpayd.whatsapp.keys import KEY_TYPE, KeyPair, SignedPreKey
from sitpayd.whatsapp.schema.whatsapp_pb2 import PreKeySignalMessage, SignalMessage
from sitpayd.whatsapp.signal.ratchet import (
    MAX_AHEAD,
    MAX_RECEIVING_CHAINS,
    MAX_SKIPPED,
    SKIPPED_LEN,
)
from sitpayd.whatsapp.signal.record import State
from sitpayd.whatsapp.signal.session import (
    MAX_ARCHIVED,
    Decrypted,
    PreKeyBundle,
    SessionRecord,
    decrypt,
    decrypt_prekey_message,
    encrypt,
    parse_prekey_message,
    start,
)
from tests.fuzz.mutators import change
from tests.fuzz.people import steady
from tests.fuzz.protos import grown, rewired
from tests.fuzz.target import Outcome, Target, judged

_VERSION: Final = b"\x33"
_MAC_LEN: Final = 8
_EDGES: Final = (0, 1, 2, 3, 1999, 2000, 2001, 2002, 2**31 - 1, 2**31, 2**32 - 1)
_CHEAP: Final = 4
_BOB_ID: Final = 2222


class Scene(IntEnum):
    """Whose hand it is."""

    MESSAGE = 0
    FIRST_MESSAGE = 1
    INSIDER = 2


class Signal(Target):
    """`signal`: parsing, sessions and ratchets."""

    name = "signal"
    summary = "nothing but what was sent is read, and an error changes no session"
    # 2,000 steps of a chain are allowed, whatever the length of the message.
    base_s = 0.1

    def __init__(self) -> None:
        with steady("signal"):
            self._alice, self._bob = KeyPair.generate(), KeyPair.generate()
            signed = SignedPreKey.generate(7, self._bob)
            self._signed, self._prekey = signed.key_pair, KeyPair.generate()
            bundle = PreKeyBundle(
                _BOB_ID,
                self._bob.public_key,
                7,
                signed.key_pair.public_key,
                signed.signature,
                1,
                self._prekey.public_key,
            )
            self._fresh = tuple(KeyPair.generate() for _ in range(8))
            begun = start(bundle, self._alice)
            first = encrypt(begun, self._alice, 1111, b"first")
            read = decrypt_prekey_message(
                None, self._bob, self._signed, self._prekey, parse_prekey_message(first.body)
            )
            answer = encrypt(read.record, self._bob, _BOB_ID, b"answer")
            alice = decrypt(first.record, self._alice, answer.body).record
            # One is lost, one is read, and one is on its way in each of two chains.
            lost = encrypt(alice, self._alice, 1111, b"lost")
            seen = encrypt(lost.record, self._alice, 1111, b"seen")
            bob = decrypt(answer.record, self._bob, seen.body).record
            following = encrypt(seen.record, self._alice, 1111, b"following")
            again = start(bundle, self._alice, previous=seen.record)
            anew = encrypt(again, self._alice, 1111, b"anew")
        self._record, self._stored = bob, bob.to_bytes()
        self._genuine = {lost.body: b"lost", following.body: b"following"}
        self._repeated = seen.body
        self._first = {anew.body: b"anew"}
        self._sending = seen.record.current.ratchet.sending
        self._chain_keys = {edge: _ahead(self._sending.chain_key, edge) for edge in _EDGES}

    def seeds(self) -> Sequence[bytes]:
        inside = SignalMessage(previousCounter=1).SerializeToString()
        bodies = [*self._genuine, self._repeated]
        return [
            *(bytes((Scene.MESSAGE, 0)) + body for body in bodies),
            *(bytes((Scene.FIRST_MESSAGE, 0)) + body for body in self._first),
            *(bytes((Scene.INSIDER, edge)) + inside for edge in range(len(_EDGES))),
        ]

    def large(self) -> Iterator[bytes]:
        (first,) = self._first
        for body in (*self._genuine, first):
            scene = Scene.FIRST_MESSAGE if body is first else Scene.MESSAGE
            yield bytes((scene, 0)) + body[:1] + b"x" * 2**20
            yield bytes((scene, 0)) + body[:1] + b"\x22\x80\x80\x40" + bytes(2**20) + bytes(8)
            yield bytes((scene, 0)) + body[:1] + b"\x10\x01" * 2**19

    def mutate(self, rng: Random, data: bytes, other: bytes) -> bytes:
        head, body = data[:2], data[2:]
        if len(head) < 2:
            head = bytes((int(rng.random() * 3), 0))
        if rng.random() < 0.3:
            # Thousands of steps cost as much as a hundred other inputs.
            edges = len(_EDGES) if rng.random() < 0.02 else _CHEAP
            head = bytes((head[0], int(rng.random() * edges)))
        elif data[1:2] > bytes((_CHEAP,)) and rng.random() < 0.98:
            head = bytes((head[0], 0))
        choice = rng.random()
        if choice < 0.4:
            return head + change(rng, body, other[2:])
        if head[0] == Scene.INSIDER:
            inside = (
                rewired(rng, body, other[2:]) if choice < 0.7 else grown(rng, SignalMessage, body)
            )
            return head + inside
        version, inner, mac = body[:1], body[1:], b""
        if head[0] == Scene.MESSAGE:
            inner, mac = inner[:-_MAC_LEN], inner[-_MAC_LEN:]
        if choice < 0.7:
            inner = rewired(rng, inner, other[3:])
        else:
            kind = SignalMessage if head[0] == Scene.MESSAGE else PreKeySignalMessage
            inner = grown(rng, kind, inner)
        return head + version + inner + mac

    def check(self, data: bytes) -> Sequence[Outcome]:
        scene, edge = (data[0] % 3, data[1]) if len(data) > 1 else (0, 0)
        body = data[2:]
        match scene:
            case Scene.MESSAGE:
                outcome = self._read(lambda: self._decrypt(body), self._genuine.get(body))
            case Scene.FIRST_MESSAGE:
                outcome = self._read(lambda: self._decrypt_first(body), None, first=True)
            case _:
                outcome = self._insider(_EDGES[edge % len(_EDGES)], body)
        assert self._record.to_bytes() == self._stored, "reading changes the session itself"
        return (outcome,)

    def _generate(self) -> Callable[[], KeyPair]:
        return cycle(self._fresh).__next__

    def _decrypt(self, body: bytes) -> Decrypted:
        return decrypt(self._record, self._bob, body, generate=self._generate())

    def _decrypt_first(self, body: bytes) -> Decrypted:
        message = parse_prekey_message(body)
        return decrypt_prekey_message(
            self._record, self._bob, self._signed, self._prekey, message, generate=self._generate()
        )

    def _read(
        self, read: Callable[[], Decrypted], expected: bytes | None, *, first: bool = False
    ) -> Outcome:
        try:
            decrypted = read()
        except DecryptError as error:
            assert expected is None, "a genuine message is refused"
            return judged(error)
        # Fields outside the MAC may differ, what is read may not.
        readable = set(self._genuine.values()) | set(self._first.values())
        assert decrypted.plaintext in readable if first else decrypted.plaintext == expected
        _is_bounded(decrypted.record)
        return "read"

    def _insider(self, ahead: int, inside: bytes) -> Outcome:
        """The peer itself: its MAC is right, whatever it covers."""
        body = self._under_mac(ahead, inside)
        try:
            decrypted = self._decrypt(body)
        except (DuplicateMessageError, FutureMessageError) as error:
            return judged(error)
        except DecryptError as error:
            return judged(error)
        _is_bounded(decrypted.record)
        assert SessionRecord.from_bytes(decrypted.record.to_bytes()) == decrypted.record
        return "insider", ahead

    def _under_mac(self, ahead: int, inside: bytes) -> bytes:
        """Put a counter, a ciphertext and a MAC to what stands inside."""
        sending = self._sending
        counter = (sending.counter + ahead) % 2**32
        seed = hmac_sha256(self._chain_keys[ahead], b"\x01")
        keys = hkdf(seed, info=b"WhisperMessageKeys", length=80)
        # The last of repeated fields counts: what was drawn stands before what makes it readable.
        known = SignalMessage(
            ratchetKey=KEY_TYPE + sending.pair.public_key,
            counter=counter,
            ciphertext=aes_cbc_encrypt(keys[:32], keys[64:], inside[:64]),
        ).SerializeToString()
        signed = _VERSION + (inside + known if ahead % 2 else known + inside)
        identities = KEY_TYPE + self._alice.public_key + KEY_TYPE + self._bob.public_key
        return signed + hmac_sha256(keys[32:64], identities + signed)[:_MAC_LEN]


def _ahead(chain_key: bytes, steps: int) -> bytes:
    """A chain key so many messages on; beyond what is read it does not matter which."""
    for _ in range(min(steps, MAX_AHEAD + 1)):
        chain_key = hmac_sha256(chain_key, b"\x02")
    return chain_key


def _is_bounded(record: SessionRecord) -> None:
    assert len(record.archived) <= MAX_ARCHIVED
    for state in (record.current, *map(State.from_bytes, record.archived)):
        assert len(state.ratchet.receiving) <= MAX_RECEIVING_CHAINS
        for chain in state.ratchet.receiving:
            assert len(chain.skipped) <= MAX_SKIPPED * SKIPPED_LEN
