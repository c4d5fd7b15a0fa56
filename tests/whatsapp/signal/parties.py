"""Two people with keys, for the tests of sessions."""

from __future__ import annotations

from dataclasses import dataclass, field

from sitpayd.whatsapp.keys import KeyPair, SignedPreKey
from sitpayd.whatsapp.signal.session import (
    Decrypted,
    Encrypted,
    PreKeyBundle,
    SessionRecord,
    decrypt,
    decrypt_prekey_message,
    encrypt,
    knows_base_key,
    parse_prekey_message,
    start,
)


@dataclass
class Party:
    """One side, with its memory of the other. Nothing is kept but bytes, as in a database."""

    registration_id: int
    identity: KeyPair = field(default_factory=KeyPair.generate)
    signed_prekey: SignedPreKey = field(init=False)
    prekeys: dict[int, KeyPair] = field(default_factory=dict)
    handed_out: int = 0
    saved: bytes | None = None

    def __post_init__(self) -> None:
        self.signed_prekey = SignedPreKey.generate(7, self.identity)

    @property
    def record(self) -> SessionRecord | None:
        return None if self.saved is None else SessionRecord.from_bytes(self.saved)

    @property
    def session(self) -> SessionRecord:
        assert self.saved is not None
        return SessionRecord.from_bytes(self.saved)

    def bundle(self, *, with_prekey: bool = True) -> PreKeyBundle:
        prekey = KeyPair.generate() if with_prekey else None
        if prekey is not None:
            self.handed_out += 1
            self.prekeys[self.handed_out] = prekey
        return PreKeyBundle(
            registration_id=self.registration_id,
            identity=self.identity.public_key,
            signed_prekey_id=self.signed_prekey.key_id,
            signed_prekey=self.signed_prekey.key_pair.public_key,
            signature=self.signed_prekey.signature,
            prekey_id=None if prekey is None else self.handed_out,
            prekey=None if prekey is None else prekey.public_key,
        )

    def begin(self, bundle: PreKeyBundle) -> None:
        self.saved = start(bundle, self.identity, previous=self.record).to_bytes()

    def send(self, plaintext: bytes) -> Encrypted:
        encrypted = encrypt(self.session, self.identity, self.registration_id, plaintext)
        self.saved = encrypted.record.to_bytes()
        return encrypted

    def read(self, encrypted: Encrypted) -> Decrypted:
        """Decrypt and save nothing, as if the process ended right then."""
        if encrypted.kind == "msg":
            return decrypt(self.session, self.identity, encrypted.body)
        message = parse_prekey_message(encrypted.body)
        if self.record is not None and knows_base_key(self.record, message.base_key):
            return decrypt_prekey_message(self.record, self.identity, None, None, message)
        prekey = None if message.prekey_id is None else self.prekeys.get(message.prekey_id)
        return decrypt_prekey_message(
            self.record, self.identity, self.signed_prekey.key_pair, prekey, message
        )

    def receive(self, encrypted: Encrypted) -> bytes:
        """Decrypt, save, and forget the prekey that was used."""
        decrypted = self.read(encrypted)
        self.saved = decrypted.record.to_bytes()
        if encrypted.kind == "pkmsg":
            self.prekeys.pop(parse_prekey_message(encrypted.body).prekey_id or 0, None)
        return decrypted.plaintext


def strangers() -> tuple[Party, Party]:
    """Alice and Bob, who have never met."""
    return Party(1111), Party(2222)


def acquaintances() -> tuple[Party, Party]:
    """Alice and Bob after one message each way: from here all is "msg"."""
    alice, bob = strangers()
    alice.begin(bob.bundle())
    bob.receive(alice.send(b"hello"))
    alice.receive(bob.send(b"hello yourself"))
    return alice, bob
