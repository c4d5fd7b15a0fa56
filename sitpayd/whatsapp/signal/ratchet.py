"""The Double Ratchet of Signal's protocol version 3: values in, values out.

A `Ratchet` is one agreed conversation: a root key, one sending chain and the last few receiving
chains. Each message moves its chain by one HMAC. A message under a ratchet key not seen before
moves the root twice: once for the peer's new chain, once for a fresh pair and a new sending chain
of ours. Messages may be lost or come in any order: keys passed over are kept as seeds, and an old
chain keeps its chain key, so that the peer's hint about its length (`previousCounter`, which some
clients get wrong) is never needed.

Nothing here changes in place and nothing new is made before the MAC was verified, so a refused
message leaves no trace. How a conversation begins, and which of several applies, is session.py.

Source: Signal, "The Double Ratchet Algorithm"; libsignal-node session_cipher.js.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from ..crypto import aes_cbc_decrypt, aes_cbc_encrypt, equal, exchange, hkdf, hmac_sha256
from ..errors import (
    BadMacError,
    DecryptError,
    DuplicateMessageError,
    FutureMessageError,
    InvalidKeyError,
    RemoteProtocolError,
)
from ..keys import KEY_TYPE, KeyPair
from ..schema.whatsapp_pb2 import SignalMessage

# Message version in the high nibble, newest version known to the sender in the low one.
VERSION: Final = b"\x33"
# Limits of libsignal: keys derived ahead for one message, seeds kept per chain, chains kept.
MAX_AHEAD: Final = 2000
MAX_SKIPPED: Final = 2000
MAX_RECEIVING_CHAINS: Final = 5
# One entry of `ReceivingChain.skipped`: 4-byte big-endian counter, 32-byte seed.
SKIPPED_LEN: Final = 36

_MAC_LEN: Final = 8
_KEY_LEN: Final = 32
_MESSAGE_INFO: Final = b"WhisperMessageKeys"
_RATCHET_INFO: Final = b"WhisperRatchet"


@dataclass(frozen=True, slots=True, repr=False)
class SendingChain:
    """Our chain.

    Attributes:
        pair: our current ratchet pair.
        chain_key: 32 bytes, for the next message.
        counter: of the next message.
        previous_counter: last counter of our chain before this one, 0 if it carried nothing.
    """

    pair: KeyPair
    chain_key: bytes
    counter: int
    previous_counter: int


@dataclass(frozen=True, slots=True, repr=False)
class ReceivingChain:
    """A chain of the peer's.

    Attributes:
        ratchet_key: 32 bytes, the peer's public ratchet key; names the chain.
        chain_key: 32 bytes, for the message `counter`.
        counter: one more than the highest received.
        skipped: seeds of messages passed over, `SKIPPED_LEN` bytes each, ascending counters.
            Packed, since a long gap would otherwise cost two objects per key at each load.
    """

    ratchet_key: bytes
    chain_key: bytes
    counter: int
    skipped: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """A parsed message, not yet verified.

    Attributes:
        signed: the received bytes the MAC covers.
        mac: 8 bytes.
    """

    ratchet_key: bytes
    counter: int
    ciphertext: bytes
    signed: bytes
    mac: bytes


def parse_key(encoded: bytes) -> bytes:
    """Take the type byte off a public key inside a Signal message.

    Raises:
        InvalidKeyError: If it is not 05 and 32 bytes.
    """
    if len(encoded) != 1 + _KEY_LEN or not encoded.startswith(KEY_TYPE):
        raise InvalidKeyError("malformed public key in a Signal message")
    return encoded[1:]


def parse_message(body: bytes) -> Message:
    """Parse a "msg" body, or what a "pkmsg" carries.

    Raises:
        DecryptError: If it is malformed or of another version.
    """
    if not body.startswith(VERSION) or len(body) <= len(VERSION) + _MAC_LEN:
        raise DecryptError("not a Signal message of version 3")
    signed = body[:-_MAC_LEN]
    fields = SignalMessage()
    try:
        fields.ParseFromString(signed[1:])
    except DecodeError as error:
        raise DecryptError("malformed Signal message") from error
    if not fields.HasField("counter") or not fields.ciphertext:
        raise DecryptError("incomplete Signal message")
    return Message(
        parse_key(fields.ratchetKey), fields.counter, fields.ciphertext, signed, body[-_MAC_LEN:]
    )


def root_step(root_key: bytes, private_key: bytes, public_key: bytes) -> tuple[bytes, bytes]:
    """Move the root by one Diffie-Hellman result.

    Returns:
        The next root key and the first key of a new chain, 32 bytes each.

    Raises:
        RemoteProtocolError: If the public key is unusable.
    """
    derived = hkdf(
        exchange(private_key, public_key), salt=root_key, info=_RATCHET_INFO, length=2 * _KEY_LEN
    )
    return derived[:_KEY_LEN], derived[_KEY_LEN:]


@dataclass(frozen=True, slots=True, repr=False)
class Ratchet:
    """One conversation.

    Attributes:
        root_key: 32 bytes.
        receiving: newest first, at most `MAX_RECEIVING_CHAINS`.
    """

    root_key: bytes
    sending: SendingChain
    receiving: tuple[ReceivingChain, ...]

    @classmethod
    def initiate(cls, root_key: bytes, pair: KeyPair, their_signed_prekey: bytes) -> Ratchet:
        """Begin as the side that fetched a bundle: their signed prekey is their first ratchet key.

        Their chain under that key is not kept: they can send only after they received from us, and
        receiving moves them off it.

        Raises:
            RemoteProtocolError: If their signed prekey is unusable.
        """
        root_key, chain_key = root_step(root_key, pair.private_key, their_signed_prekey)
        return cls(root_key, SendingChain(pair, chain_key, 0, 0), ())

    @classmethod
    def respond(cls, root_key: bytes, chain_key: bytes, signed_prekey: KeyPair) -> Ratchet:
        """Begin as the side whose bundle was fetched; the first message received moves it on."""
        return cls(root_key, SendingChain(signed_prekey, chain_key, 0, 0), ())

    def knows(self, ratchet_key: bytes) -> bool:
        """Tell whether messages under this key belong to a chain we hold."""
        return any(chain.ratchet_key == ratchet_key for chain in self.receiving)

    def encrypt(self, sender: bytes, receiver: bytes, plaintext: bytes) -> tuple[Ratchet, bytes]:
        """Encrypt one message.

        Args:
            sender: our identity, 32 bytes.
            receiver: the peer's, 32 bytes.

        Returns:
            The moved ratchet and the body, a complete "msg".
        """
        chain = self.sending
        aes_key, mac_key, iv = _message_keys(_seed(chain.chain_key))
        signed = (
            VERSION
            + SignalMessage(
                ratchetKey=KEY_TYPE + chain.pair.public_key,
                counter=chain.counter,
                previousCounter=chain.previous_counter,
                ciphertext=aes_cbc_encrypt(aes_key, iv, plaintext),
            ).SerializeToString()
        )
        moved = SendingChain(
            chain.pair, _next(chain.chain_key), chain.counter + 1, chain.previous_counter
        )
        return (
            Ratchet(self.root_key, moved, self.receiving),
            signed + _mac(mac_key, sender, receiver, signed),
        )

    def decrypt(
        self, sender: bytes, receiver: bytes, message: Message, generate: Callable[[], KeyPair]
    ) -> tuple[Ratchet, bytes]:
        """Decrypt one message.

        Args:
            sender: the peer's identity, 32 bytes.
            receiver: ours, 32 bytes.
            generate: makes our next ratchet pair; called once at most, after the MAC verified.

        Returns:
            The moved ratchet and the plaintext.

        Raises:
            DuplicateMessageError: If the key of this counter was used or dropped.
            FutureMessageError: If it lies more than `MAX_AHEAD` beyond its chain.
            BadMacError: If the MAC does not verify.
            DecryptError: If the message is broken although its MAC verified.
            RemoteProtocolError: If its ratchet key is unusable.
        """
        for index, chain in enumerate(self.receiving):
            if chain.ratchet_key == message.ratchet_key:
                chain, plaintext = _receive(chain, sender, receiver, message)
                receiving = (*self.receiving[:index], chain, *self.receiving[index + 1 :])
                return Ratchet(self.root_key, self.sending, receiving), plaintext

        if message.counter > MAX_AHEAD:  # before the Diffie-Hellman: refusing must stay cheap
            raise FutureMessageError("counter too far ahead in a new chain")
        root_key, chain_key = root_step(
            self.root_key, self.sending.pair.private_key, message.ratchet_key
        )
        fresh = ReceivingChain(message.ratchet_key, chain_key, 0, b"")
        fresh, plaintext = _receive(fresh, sender, receiver, message)
        pair = generate()
        root_key, chain_key = root_step(root_key, pair.private_key, message.ratchet_key)
        sending = SendingChain(pair, chain_key, 0, max(self.sending.counter - 1, 0))
        receiving = (fresh, *self.receiving[: MAX_RECEIVING_CHAINS - 1])
        return Ratchet(root_key, sending, receiving), plaintext


def _receive(
    chain: ReceivingChain, sender: bytes, receiver: bytes, message: Message
) -> tuple[ReceivingChain, bytes]:
    """Decrypt within one chain: the moved chain and the plaintext."""
    counter = message.counter
    if counter < chain.counter:
        at = _find_skipped(chain.skipped, counter)
        if at is None:
            raise DuplicateMessageError("message key used already")
        seed = chain.skipped[at + 4 : at + SKIPPED_LEN]
        plaintext = _open(seed, sender, receiver, message)
        skipped = chain.skipped[:at] + chain.skipped[at + SKIPPED_LEN :]
        return ReceivingChain(chain.ratchet_key, chain.chain_key, chain.counter, skipped), plaintext

    if counter - chain.counter > MAX_AHEAD:
        raise FutureMessageError("counter too far ahead")
    passed = []
    chain_key = chain.chain_key
    for _ in range(counter - chain.counter):
        passed.append(chain_key)
        chain_key = _next(chain_key)
    plaintext = _open(_seed(chain_key), sender, receiver, message)
    skipped = chain.skipped
    if passed:
        # After the MAC: a forged counter must not make us derive the seeds as well.
        skipped += b"".join(
            (chain.counter + offset).to_bytes(4) + _seed(passed_key)
            for offset, passed_key in enumerate(passed)
        )
        skipped = skipped[-MAX_SKIPPED * SKIPPED_LEN :]
    return ReceivingChain(chain.ratchet_key, _next(chain_key), counter + 1, skipped), plaintext


def _find_skipped(skipped: bytes, counter: int) -> int | None:
    """Where the entry of this counter starts. A match inside a seed is no entry."""
    wanted = counter.to_bytes(4)
    at = skipped.find(wanted)
    while at % SKIPPED_LEN and at >= 0:
        at = skipped.find(wanted, at + 1)
    return at if at >= 0 else None


def _open(seed: bytes, sender: bytes, receiver: bytes, message: Message) -> bytes:
    aes_key, mac_key, iv = _message_keys(seed)
    if not equal(_mac(mac_key, sender, receiver, message.signed), message.mac):
        raise BadMacError("the message's MAC does not verify")
    try:
        return aes_cbc_decrypt(aes_key, iv, message.ciphertext)
    except RemoteProtocolError as error:
        raise DecryptError("bad padding under a good MAC") from error


def _seed(chain_key: bytes) -> bytes:
    return hmac_sha256(chain_key, b"\x01")


def _next(chain_key: bytes) -> bytes:
    return hmac_sha256(chain_key, b"\x02")


def _message_keys(seed: bytes) -> tuple[bytes, bytes, bytes]:
    """AES key (32 bytes), MAC key (32 bytes), IV (16 bytes)."""
    keys = hkdf(seed, info=_MESSAGE_INFO, length=80)
    return keys[:32], keys[32:64], keys[64:]


def _mac(mac_key: bytes, sender: bytes, receiver: bytes, signed: bytes) -> bytes:
    return hmac_sha256(mac_key, KEY_TYPE + sender + KEY_TYPE + receiver + signed)[:_MAC_LEN]
