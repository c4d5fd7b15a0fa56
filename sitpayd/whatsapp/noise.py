"""The Noise handshakes as WhatsApp does them, for both roles, and the ciphers they end in.

A full handshake is Noise_XX_25519_AESGCM_SHA256, prologue "WA" 6 3. The server's first payload
carries its certificate chain, the client's last one its ClientPayload; neither may be missing. The
client accepts a server only after `verify_certificate_chain`: whoever skips one of its checks talks
to anybody.

A client that has verified a server before may resume: Noise_IK to the static key it knows, with the
ClientPayload in its first message. A server that does not take it, for example because it has other
keys now, answers as in XX, and both go on as Noise_XXfallback with the ephemeral key already sent.
What a resumption sends early can be read by whoever gets hold of the server's static key later, and
it can be repeated, though not used: the answer is for the one who holds both private keys. So
nothing but the ClientPayload goes early. Framing and the order of messages on the wire are
connection.py's business.

Source: The Noise Protocol Framework, revision 34, sections 5, 7.5 and 10.4; whatsmeow handshake.go,
socket/noisehandshake.go; whatsapp-rust wacore/noise/src/handshake.rs for what resumes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError

from .crypto import KEY_LEN, SIGNATURE_LEN, equal, exchange, hkdf, sign, verify
from .errors import HandshakeError, LocalProtocolError, RemoteProtocolError, ResumptionError
from .frames import PROLOGUE
from .keys import KeyPair
from .schema.whatsapp_pb2 import CertChain, HandshakeMessage

# The key that signs the intermediate certificates of WhatsApp's servers ("WhatsAppLongTerm1").
# Source: whatsmeow handshake.go, WACertPubKey.
WHATSAPP_ROOT_KEY: Final = bytes.fromhex(
    "142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b"
)
# How far our clock may be off before a certificate counts as expired, in seconds.
CLOCK_SKEW_S: Final = 3600.0
# Nonces have 32 bits that count; a repeated one would give the key away.
MAX_COUNTER: Final = 2**32 - 1

_ROOT_SERIAL: Final = 0
_INTERMEDIATE_SERIAL: Final = 1
_LEAF_SERIAL: Final = 2
_DAY_S: Final = 86_400
_CERTIFICATE_LIFETIME_S: Final = 365 * _DAY_S


class Pattern(StrEnum):
    """How a handshake goes."""

    XX = "xx"
    IK = "ik"
    XX_FALLBACK = "xxfallback"


class Resumption(StrEnum):
    """What a server does with a client that wants to resume.

    REFUSE answers it with a full handshake, as XXfallback. IGNORE does so as if it had begun one,
    as XX: a server that knows of no resumption.
    """

    ACCEPT = "accept"
    REFUSE = "refuse"
    IGNORE = "ignore"


_PROTOCOL_NAMES: Final = {
    # 32 bytes with the padding, so Noise takes the name itself instead of its hash.
    Pattern.XX: b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0",
    Pattern.IK: b"Noise_IK_25519_AESGCM_SHA256\0\0\0\0",
    Pattern.XX_FALLBACK: hashlib.sha256(b"Noise_XXfallback_25519_AESGCM_SHA256").digest(),
}


def _nonce(counter: int) -> bytes:
    """8 zero bytes and the counter: 12 bytes, big-endian."""
    return counter.to_bytes(12, "big")


class TransportCipher:
    """The two AES-256-GCM ciphers of an established connection, each with its own counter.

    After one failed decryption the peer's counter is unknown for good, so the cipher is dead in
    both directions.
    """

    __slots__ = ("_is_dead", "_read", "_read_count", "_write", "_write_count")

    def __init__(self, write_key: bytes, read_key: bytes) -> None:
        self._write = AESGCM(write_key)
        self._read = AESGCM(read_key)
        self._write_count = 0
        self._read_count = 0
        self._is_dead = False

    def encrypt(self, plaintext: bytes) -> bytes:
        """Encrypt the next outgoing frame body; the 16-byte tag is at its end.

        Raises:
            LocalProtocolError: If all nonces are used or the cipher is dead.
        """
        self._check_alive()
        if self._write_count > MAX_COUNTER:
            raise LocalProtocolError("the Noise nonces of this connection are used up")
        count = self._write_count
        # Before it is used: whatever interrupts, no nonce ever covers two plaintexts.
        self._write_count += 1
        return self._write.encrypt(_nonce(count), plaintext, None)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Decrypt the next incoming frame body.

        Raises:
            RemoteProtocolError: If it does not verify or all nonces are used; the cipher is dead.
            LocalProtocolError: If the cipher is dead already.
        """
        self._check_alive()
        try:
            if self._read_count > MAX_COUNTER:
                raise RemoteProtocolError("the peer went past the last Noise nonce")
            plaintext = self._read.decrypt(_nonce(self._read_count), ciphertext, None)
        except (InvalidTag, RemoteProtocolError) as error:
            self._is_dead = True
            if isinstance(error, RemoteProtocolError):
                raise
            raise RemoteProtocolError("a Noise frame does not decrypt") from error
        self._read_count += 1
        return plaintext

    def _check_alive(self) -> None:
        if self._is_dead:
            raise LocalProtocolError("the Noise cipher is out of step")


class _Handshake:
    """The symmetric state of Noise (section 5.2), shared by both roles.

    Attributes:
        pattern: what it is at the moment: one side may make another of it.
        cipher: the transport cipher, once the handshake is complete.
        handshake_hash: h, 32 bytes; both sides have the same at the end.
        client_payload: the client's payload, on the responder's side.
        client_static: the client's Noise public key, on the responder's side.
    """

    __slots__ = (
        "_aead",
        "_chaining_key",
        "_counter",
        "_ephemeral",
        "cipher",
        "client_payload",
        "client_static",
        "handshake_hash",
        "pattern",
    )

    def __init__(self, ephemeral: KeyPair | None, pattern: Pattern) -> None:
        self._ephemeral = ephemeral or KeyPair.generate()
        self.cipher: TransportCipher | None = None
        self.client_payload: bytes | None = None
        self.client_static: bytes | None = None
        self._begin(pattern)

    def _begin(self, pattern: Pattern) -> None:
        """Begin, or begin anew: nothing is left of what was mixed before."""
        name = _PROTOCOL_NAMES[pattern]
        self.pattern = pattern
        self.handshake_hash = self._chaining_key = name
        self._aead = AESGCM(name)
        self._counter = 0
        self._mix_hash(PROLOGUE)

    def _mix_hash(self, data: bytes) -> None:
        self.handshake_hash = hashlib.sha256(self.handshake_hash + data).digest()

    def _mix_exchange(self, private_key: bytes, public_key: bytes) -> None:
        try:
            secret = exchange(private_key, public_key)
        except RemoteProtocolError as error:
            raise HandshakeError("the peer's Noise key is unusable") from error
        output = hkdf(secret, salt=self._chaining_key, length=64)
        self._chaining_key = output[:32]
        self._aead = AESGCM(output[32:])
        self._counter = 0

    def _encrypt(self, plaintext: bytes) -> bytes:
        ciphertext = self._aead.encrypt(self._next_nonce(), plaintext, self.handshake_hash)
        self._mix_hash(ciphertext)
        return ciphertext

    def _decrypt(self, ciphertext: bytes, what: str) -> bytes:
        try:
            plaintext = self._aead.decrypt(self._next_nonce(), ciphertext, self.handshake_hash)
        except InvalidTag as error:
            raise HandshakeError(f"{what} does not decrypt") from error
        self._mix_hash(ciphertext)
        return plaintext

    def _next_nonce(self) -> bytes:
        self._counter += 1
        return _nonce(self._counter - 1)

    def _split(self) -> tuple[bytes, bytes]:
        """The keys from client to server and from server to client."""
        output = hkdf(b"", salt=self._chaining_key, length=64)
        return output[:32], output[32:]


class InitiatorHandshake(_Handshake):
    """The client's side: send `client_hello`, then receive the ServerHello.

    Attributes:
        client_hello: the first message, ready for a frame.
        server: who is at the other end, once the handshake is complete. Before that it is whom the
            client resumes with, if it does.
    """

    __slots__ = ("_noise", "_now", "_payload", "_root_key", "client_hello", "server")

    def __init__(
        self,
        *,
        noise: KeyPair,
        payload: bytes,
        root_key: bytes,
        now: float,
        server: KnownServer | None = None,
        ephemeral: KeyPair | None = None,
    ) -> None:
        """Begin a handshake.

        Args:
            noise: the device's long-lived Noise keys.
            payload: the serialised ClientPayload.
            root_key: 32 bytes, signs the server's certificates.
            now: UTC seconds.
            server: verified before with this root key, to resume with; it is not, once a
                certificate of it has expired.
            ephemeral: fresh for every connection; given only to reproduce a handshake.

        Raises:
            LocalProtocolError: If the payload is empty; the server waits for one.
        """
        if not payload:
            raise LocalProtocolError("a client without a payload is not let in")
        self.server = server if server is not None and server.is_valid_at(now) else None
        super().__init__(ephemeral, Pattern.XX if self.server is None else Pattern.IK)
        self._noise = noise
        self._payload = payload
        self._root_key = root_key
        self._now = now
        hello = HandshakeMessage.ClientHello(ephemeral=self._ephemeral.public_key)
        if self.server is None:
            self._mix_hash(hello.ephemeral)
        else:
            self._resume(hello, self.server.static_key)
        self.client_hello: Final = HandshakeMessage(clientHello=hello).SerializeToString()

    def _resume(self, hello: HandshakeMessage.ClientHello, server_static: bytes) -> None:
        self._mix_hash(server_static)
        self._mix_hash(hello.ephemeral)
        self._mix_exchange(self._ephemeral.private_key, server_static)
        hello.static = self._encrypt(self._noise.public_key)
        self._mix_exchange(self._noise.private_key, server_static)
        hello.payload = self._encrypt(self._payload)

    def receive(self, message: bytes) -> bytes:
        """Take the ServerHello; return the ClientFinish, empty if the server let us resume.

        The cipher is there afterwards.

        Raises:
            HandshakeError: If anything in it does not verify.
            ResumptionError: If anything does not after we tried to resume. What that means only a
                full handshake tells: the server may know of no resumption.
        """
        if self.server is None:
            return self._answer(_parse(message).serverHello)
        try:
            return self._answer_to_resumption(_parse(message).serverHello)
        except HandshakeError as error:
            raise ResumptionError(f"resuming failed: {error}") from error

    def _answer_to_resumption(self, hello: HandshakeMessage.ServerHello) -> bytes:
        if not hello.HasField("static"):
            self._finish_resumption(hello)
            return b""
        self._begin(Pattern.XX_FALLBACK)
        self._mix_hash(self._ephemeral.public_key)
        return self._answer(hello)

    def _finish_resumption(self, hello: HandshakeMessage.ServerHello) -> None:
        if len(hello.ephemeral) != KEY_LEN:
            raise HandshakeError("no ServerHello with an ephemeral key of 32 bytes")
        self._mix_hash(hello.ephemeral)
        self._mix_exchange(self._ephemeral.private_key, hello.ephemeral)
        self._mix_exchange(self._noise.private_key, hello.ephemeral)
        # The chain once more. That it decrypts proves the static key, which was verified before.
        self._decrypt(hello.payload, "the server's certificate chain")
        self._finish()

    def _answer(self, hello: HandshakeMessage.ServerHello) -> bytes:
        if len(hello.ephemeral) != KEY_LEN:
            raise HandshakeError("no ServerHello with an ephemeral key of 32 bytes")
        self._mix_hash(hello.ephemeral)
        self._mix_exchange(self._ephemeral.private_key, hello.ephemeral)
        server_static = self._decrypt(hello.static, "the server's static key")
        if len(server_static) != KEY_LEN:
            raise HandshakeError("the server's static key is not 32 bytes long")
        self._mix_exchange(self._ephemeral.private_key, server_static)
        chain = self._decrypt(hello.payload, "the server's certificate chain")
        self.server = verify_certificate_chain(chain, server_static, self._root_key, self._now)

        static = self._encrypt(self._noise.public_key)
        self._mix_exchange(self._noise.private_key, hello.ephemeral)
        payload = self._encrypt(self._payload)
        self._finish()
        return HandshakeMessage(
            clientFinish=HandshakeMessage.ClientFinish(static=static, payload=payload)
        ).SerializeToString()

    def _finish(self) -> None:
        to_server, to_client = self._split()
        self.cipher = TransportCipher(write_key=to_server, read_key=to_client)


class ResponderHandshake(_Handshake):
    """The server's side: receive the ClientHello, answer it, receive the ClientFinish."""

    __slots__ = ("_is_greeted", "_keys", "_resumption")

    def __init__(
        self,
        keys: ServerKeys,
        *,
        resumption: Resumption = Resumption.ACCEPT,
        ephemeral: KeyPair | None = None,
    ) -> None:
        """Wait for a client.

        Args:
            ephemeral: fresh for every connection; given only to reproduce a handshake.
        """
        super().__init__(ephemeral, Pattern.XX)
        self._keys = keys
        self._resumption = resumption
        self._is_greeted = False

    def receive(self, message: bytes) -> bytes | None:
        """Take the client's next message; return the ServerHello to the first, None to the second.

        After the second the cipher is there, and `client_payload` and `client_static`; after the
        first already if the client resumed.

        Raises:
            HandshakeError: If anything in it does not verify.
        """
        if self._is_greeted:
            self._accept(_parse(message).clientFinish)
            return None
        self._is_greeted = True
        hello = _parse(message).clientHello
        if len(hello.ephemeral) != KEY_LEN:
            raise HandshakeError("no ClientHello with an ephemeral key of 32 bytes")
        if hello.HasField("static") and self._resumption is not Resumption.IGNORE:
            if self._resumption is Resumption.ACCEPT and self._takes_resumption(hello):
                return self._welcome_back(hello)
            self._begin(Pattern.XX_FALLBACK)
        return self._greet(hello)

    def _takes_resumption(self, hello: HandshakeMessage.ClientHello) -> bool:
        """Whether the client means this server's static key, and proves its own."""
        static = self._keys.static
        self._begin(Pattern.IK)
        self._mix_hash(static.public_key)
        self._mix_hash(hello.ephemeral)
        self._mix_exchange(static.private_key, hello.ephemeral)
        try:
            client_static = self._decrypt(hello.static, "the client's static key")
            self._mix_exchange(static.private_key, client_static)
            client_payload = self._decrypt(hello.payload, "the client's payload")
        except HandshakeError:
            return False
        self._remember(client_static, client_payload)
        return True

    def _welcome_back(self, hello: HandshakeMessage.ClientHello) -> bytes:
        own, client_static = self._ephemeral, self.client_static
        assert client_static is not None
        self._mix_hash(own.public_key)
        self._mix_exchange(own.private_key, hello.ephemeral)
        self._mix_exchange(own.private_key, client_static)
        payload_ciphertext = self._encrypt(self._keys.certificate_chain)
        self._finish()
        return HandshakeMessage(
            serverHello=HandshakeMessage.ServerHello(
                ephemeral=own.public_key, payload=payload_ciphertext
            )
        ).SerializeToString()

    def _greet(self, hello: HandshakeMessage.ClientHello) -> bytes:
        own, static = self._ephemeral, self._keys.static
        self._mix_hash(hello.ephemeral)
        self._mix_hash(own.public_key)
        self._mix_exchange(own.private_key, hello.ephemeral)
        static_ciphertext = self._encrypt(static.public_key)
        self._mix_exchange(static.private_key, hello.ephemeral)
        payload_ciphertext = self._encrypt(self._keys.certificate_chain)
        return HandshakeMessage(
            serverHello=HandshakeMessage.ServerHello(
                ephemeral=own.public_key, static=static_ciphertext, payload=payload_ciphertext
            )
        ).SerializeToString()

    def _accept(self, finish: HandshakeMessage.ClientFinish) -> None:
        client_static = self._decrypt(finish.static, "the client's static key")
        if len(client_static) != KEY_LEN:
            raise HandshakeError("the client's static key is not 32 bytes long")
        self._mix_exchange(self._ephemeral.private_key, client_static)
        self._remember(client_static, self._decrypt(finish.payload, "the client's payload"))
        self._finish()

    def _remember(self, client_static: bytes, client_payload: bytes) -> None:
        if not client_payload:
            raise HandshakeError("the client's payload is empty")
        self.client_static, self.client_payload = client_static, client_payload

    def _finish(self) -> None:
        to_server, to_client = self._split()
        self.cipher = TransportCipher(write_key=to_client, read_key=to_server)


def _parse(message: bytes) -> HandshakeMessage:
    try:
        return HandshakeMessage.FromString(message)
    except DecodeError as error:
        raise HandshakeError("a handshake message does not parse") from error


# --- Certificates ---


@dataclass(frozen=True, slots=True)
class KnownServer:
    """A server for whom the root key vouched: what it takes to resume with it. No secret.

    Attributes:
        static_key: its Noise public key: 32 bytes, X25519.
        not_before: when the younger of its certificates began, UTC seconds.
        not_after: when the first of them ends, UTC seconds.
    """

    static_key: bytes
    not_before: float
    not_after: float

    def is_valid_at(self, now: float) -> bool:
        """Whether the certificates hold; without tolerance, since a full handshake is at hand.

        Args:
            now: UTC seconds.
        """
        return self.not_before <= now < self.not_after


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What a server presents: its static Noise keys and the serialised CertChain over them."""

    static: KeyPair
    certificate_chain: bytes

    @classmethod
    def generate(cls, root: KeyPair, now: float) -> ServerKeys:
        """Make fresh keys and a chain root, intermediate, leaf, valid from yesterday for a year.

        Args:
            now: UTC seconds.
        """
        intermediate, static = KeyPair.generate(), KeyPair.generate()
        chain = CertChain(
            leaf=_certificate(
                _LEAF_SERIAL, _INTERMEDIATE_SERIAL, static.public_key, now, intermediate
            ),
            intermediate=_certificate(
                _INTERMEDIATE_SERIAL, _ROOT_SERIAL, intermediate.public_key, now, root
            ),
        )
        return cls(static, chain.SerializeToString())


def _certificate(
    serial: int, issuer_serial: int, public_key: bytes, now: float, issuer: KeyPair
) -> CertChain.NoiseCertificate:
    details = CertChain.NoiseCertificate.Details(
        serial=serial,
        issuerSerial=issuer_serial,
        key=public_key,
        notBefore=int(now) - _DAY_S,
        notAfter=int(now) + _CERTIFICATE_LIFETIME_S,
    ).SerializeToString()
    return CertChain.NoiseCertificate(details=details, signature=sign(issuer.private_key, details))


def verify_certificate_chain(
    payload: bytes,
    server_static: bytes,
    root_key: bytes,
    now: float,
    clock_skew_s: float = CLOCK_SKEW_S,
) -> KnownServer:
    """Check that the owner of the root key vouches for the server's static key, today.

    Without the checks on serials, key and time, a genuine chain seen elsewhere could be put in
    front of any static key.

    Args:
        payload: the serialised CertChain of the ServerHello.
        server_static: the server's Noise public key: 32 bytes.
        root_key: 32 bytes, XEdDSA.
        now: UTC seconds.
        clock_skew_s: tolerance for our own clock, in seconds.

    Raises:
        HandshakeError: If a check fails; the message names it.

    Source: whatsmeow handshake.go, verifyServerCert.
    """
    try:
        chain = CertChain.FromString(payload)
        leaf = CertChain.NoiseCertificate.Details.FromString(chain.leaf.details)
        intermediate = CertChain.NoiseCertificate.Details.FromString(chain.intermediate.details)
    except DecodeError as error:
        raise HandshakeError("certificate chain: does not parse") from error

    for name, certificate, details in (
        ("leaf", chain.leaf, leaf),
        ("intermediate", chain.intermediate, intermediate),
    ):
        if not certificate.details:
            _refuse(f"the {name} has no details")
        if len(certificate.signature) != SIGNATURE_LEN:
            _refuse(f"the {name}'s signature is not {SIGNATURE_LEN} bytes long")
        if len(details.key) != KEY_LEN:
            _refuse(f"the {name}'s key is not {KEY_LEN} bytes long")
    if not verify(root_key, chain.intermediate.details, chain.intermediate.signature):
        _refuse("the root key did not sign the intermediate")
    if intermediate.issuerSerial != _ROOT_SERIAL:
        _refuse("the intermediate names another issuer than the root")
    if not verify(intermediate.key, chain.leaf.details, chain.leaf.signature):
        _refuse("the intermediate did not sign the leaf")
    if leaf.issuerSerial != intermediate.serial:
        _refuse("the leaf names another issuer than the intermediate")
    if not equal(leaf.key, server_static):
        _refuse("the leaf is for another static key")
    for name, details in (("leaf", leaf), ("intermediate", intermediate)):
        if now < details.notBefore - clock_skew_s:
            _refuse(f"the {name} is not valid yet, or our clock is wrong")
        if now > details.notAfter + clock_skew_s:
            _refuse(f"the {name} has expired, or our clock is wrong")
    return KnownServer(
        static_key=server_static,
        not_before=max(leaf.notBefore, intermediate.notBefore),
        not_after=min(leaf.notAfter, intermediate.notAfter),
    )


def _refuse(reason: str) -> NoReturn:
    raise HandshakeError(f"certificate chain: {reason}")
