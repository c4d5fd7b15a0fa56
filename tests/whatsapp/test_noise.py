from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given
from hypothesis import strategies as st

from sitpayd.whatsapp import noise
from sitpayd.whatsapp.crypto import sign
from sitpayd.whatsapp.errors import HandshakeError, LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.noise import (
    CLOCK_SKEW_S,
    WHATSAPP_ROOT_KEY,
    InitiatorHandshake,
    ResponderHandshake,
    ServerKeys,
    TransportCipher,
    verify_certificate_chain,
)
from sitpayd.whatsapp.schema.whatsapp_pb2 import CertChain, HandshakeMessage

VECTORS = json.loads((Path(__file__).parent / "vectors" / "noise.json").read_text())
VECTOR, SERVER = VECTORS["handshakes"][0], VECTORS["server"]

NOW = 1_760_000_000.0
DAY_S = 86_400
ROOT = KeyPair.generate()
CLIENT = KeyPair.generate()
SERVER_KEYS = ServerKeys.generate(ROOT, NOW)
Details = CertChain.NoiseCertificate.Details


def pair(name: str, vector: dict[str, str] = VECTOR) -> KeyPair:
    return KeyPair.from_private(bytes.fromhex(vector[name]))


def vector_initiator() -> InitiatorHandshake:
    return InitiatorHandshake(
        noise=pair("client_noise_static_priv"),
        payload=bytes.fromhex(VECTOR["client_payload_plain"]),
        root_key=bytes.fromhex(SERVER["fake_root_pub"]),
        now=NOW,
        ephemeral=pair("client_ephemeral_priv"),
    )


def vector_responder() -> ResponderHandshake:
    keys = ServerKeys(
        static=pair("server_static_priv", SERVER),
        certificate_chain=bytes.fromhex(SERVER["cert_chain_plain"]),
    )
    return ResponderHandshake(keys, ephemeral=pair("server_ephemeral_priv", SERVER))


def initiator(
    payload: bytes = b"payload", root_key: bytes = ROOT.public_key, now: float = NOW
) -> InitiatorHandshake:
    return InitiatorHandshake(noise=CLIENT, payload=payload, root_key=root_key, now=now)


def answered(message: bytes | None) -> bytes:
    assert message is not None
    return message


def ciphers(payload: bytes = b"payload") -> tuple[TransportCipher, TransportCipher]:
    """Shake hands: the initiator's and the responder's cipher."""
    client, server = initiator(payload), ResponderHandshake(SERVER_KEYS)
    server.receive(client.receive(answered(server.receive(client.client_hello))))
    assert client.cipher is not None
    assert server.cipher is not None
    return client.cipher, server.cipher


def flipped(data: bytes, bit: int) -> bytes:
    damaged = bytearray(data)
    damaged[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(damaged)


# --- Vectors ---


def test_initiator_reproduces_the_vector() -> None:
    client = vector_initiator()
    finish = client.receive(bytes.fromhex(VECTOR["server_hello_message"]))
    assert VECTOR["frame1_client_hello_with_prologue"].endswith(client.client_hello.hex())
    assert finish.hex() == VECTOR["client_finish_frame"][6:]
    assert client.handshake_hash.hex() == VECTOR["final_hash"]


def test_responder_reproduces_the_vector() -> None:
    server = vector_responder()
    hello = answered(server.receive(vector_initiator().client_hello))
    assert hello.hex() == SERVER["server_hello"]
    assert server.receive(bytes.fromhex(VECTOR["client_finish_frame"])[3:]) is None
    assert server.handshake_hash.hex() == VECTOR["final_hash"]
    assert answered(server.client_payload).hex() == VECTOR["client_payload_plain"]
    assert server.client_static == pair("client_noise_static_priv").public_key


def test_both_directions_use_the_keys_of_the_vector() -> None:
    client = vector_initiator()
    client.receive(bytes.fromhex(VECTOR["server_hello_message"]))
    reference = TransportCipher(
        write_key=bytes.fromhex(VECTOR["server_to_client_key"]),
        read_key=bytes.fromhex(VECTOR["client_to_server_key"]),
    )
    assert client.cipher is not None
    assert reference.decrypt(client.cipher.encrypt(b"up")) == b"up"
    assert client.cipher.decrypt(reference.encrypt(b"down")) == b"down"


def test_pinned_root_key_is_whatsapps() -> None:
    assert WHATSAPP_ROOT_KEY.hex().startswith("142375574d0a587166aae71ebe516437")


# --- Handshake ---


@given(payload=st.binary(min_size=1, max_size=300), texts=st.lists(st.binary(max_size=50)))
def test_both_sides_end_with_crossed_keys(payload: bytes, texts: list[bytes]) -> None:
    client, server = ciphers(payload)
    for text in texts:
        assert server.decrypt(client.encrypt(text)) == text
        assert client.decrypt(server.encrypt(text)) == text


def test_responder_learns_payload_and_key_of_the_client() -> None:
    client, server = initiator(b"login"), ResponderHandshake(SERVER_KEYS)
    server.receive(client.receive(answered(server.receive(client.client_hello))))
    assert (server.client_payload, server.client_static) == (b"login", CLIENT.public_key)


def test_ephemeral_keys_are_fresh_each_time() -> None:
    assert initiator().client_hello != initiator().client_hello


@given(bit=st.integers(0, 36 * 8 - 1))
def test_flipped_bit_in_the_client_hello_fails(bit: int) -> None:
    client, server = initiator(), ResponderHandshake(SERVER_KEYS)
    with pytest.raises(HandshakeError):
        client.receive(answered(server.receive(flipped(client.client_hello, bit))))


@given(bit=st.integers(min_value=0, max_value=400 * 8))
def test_flipped_bit_in_the_server_hello_fails(bit: int) -> None:
    client, server = initiator(), ResponderHandshake(SERVER_KEYS)
    hello = answered(server.receive(client.client_hello))
    with pytest.raises(HandshakeError):
        client.receive(flipped(hello, bit))


@given(bit=st.integers(min_value=0, max_value=80 * 8))
def test_flipped_bit_in_the_client_finish_fails(bit: int) -> None:
    client, server = initiator(), ResponderHandshake(SERVER_KEYS)
    finish = client.receive(answered(server.receive(client.client_hello)))
    with pytest.raises(HandshakeError):
        server.receive(flipped(finish, bit))


@given(message=st.binary(max_size=200))
@example(b"")
def test_any_bytes_as_server_hello_are_refused(message: bytes) -> None:
    """T-53."""
    with pytest.raises(HandshakeError):
        initiator().receive(message)


@given(message=st.binary(max_size=200))
@example(b"")
def test_any_bytes_as_client_hello_give_an_answer_or_a_handshake_error(message: bytes) -> None:
    """T-53."""
    try:
        ResponderHandshake(SERVER_KEYS).receive(message)
    except HandshakeError:
        return


@given(message=st.binary(max_size=200))
@example(b"")
def test_any_bytes_as_client_finish_are_refused(message: bytes) -> None:
    """T-53."""
    server = ResponderHandshake(SERVER_KEYS)
    server.receive(initiator().client_hello)
    with pytest.raises(HandshakeError):
        server.receive(message)


@pytest.mark.parametrize("ephemeral", [bytes(32), b"\x01" + bytes(31), bytes(31)])
def test_weak_or_short_ephemeral_key_is_refused(ephemeral: bytes) -> None:
    """T-53."""
    hello = HandshakeMessage(clientHello=HandshakeMessage.ClientHello(ephemeral=ephemeral))
    with pytest.raises(HandshakeError):
        ResponderHandshake(SERVER_KEYS).receive(hello.SerializeToString())


def test_client_without_a_payload_is_our_error() -> None:
    with pytest.raises(LocalProtocolError, match="payload"):
        initiator(payload=b"")


class _CutServer(ResponderHandshake):
    """A server that shortens its static key."""

    __slots__ = ()

    def _encrypt(self, plaintext: bytes) -> bytes:
        return super()._encrypt(plaintext[:31])


class _CutClient(InitiatorHandshake):
    """A client that shortens its static key."""

    __slots__ = ()

    def _encrypt(self, plaintext: bytes) -> bytes:
        return super()._encrypt(plaintext[:31])


class _MuteClient(InitiatorHandshake):
    """A client that sends its static key but no payload."""

    __slots__ = ()

    def _encrypt(self, plaintext: bytes) -> bytes:
        return super()._encrypt(plaintext if plaintext == CLIENT.public_key else b"")


def test_short_static_key_of_the_server_is_refused() -> None:
    client = initiator()
    hello = answered(_CutServer(SERVER_KEYS).receive(client.client_hello))
    with pytest.raises(HandshakeError, match="server's static key is not 32 bytes"):
        client.receive(hello)


@pytest.mark.parametrize(
    ("client_type", "reason"),
    [
        (_CutClient, "client's static key is not 32 bytes"),
        (_MuteClient, "client's payload is empty"),
    ],
)
def test_incomplete_client_finish_is_refused(
    client_type: type[InitiatorHandshake], reason: str
) -> None:
    client = client_type(noise=CLIENT, payload=b"x", root_key=ROOT.public_key, now=NOW)
    server = ResponderHandshake(SERVER_KEYS)
    finish = client.receive(answered(server.receive(client.client_hello)))
    with pytest.raises(HandshakeError, match=reason):
        server.receive(finish)


# --- Transport ---


@given(bit=st.integers(0, 20 * 8 - 1))
def test_flipped_bit_in_a_transport_frame_fails(bit: int) -> None:
    client, server = ciphers()
    with pytest.raises(RemoteProtocolError):
        server.decrypt(flipped(client.encrypt(b"text"), bit))


def test_repeated_frame_fails() -> None:
    """T-54."""
    client, server = ciphers()
    frame = client.encrypt(b"text")
    server.decrypt(frame)
    with pytest.raises(RemoteProtocolError):
        server.decrypt(frame)


def test_skipped_frame_fails() -> None:
    """T-54."""
    client, server = ciphers()
    client.encrypt(b"lost")
    with pytest.raises(RemoteProtocolError):
        server.decrypt(client.encrypt(b"text"))


@pytest.mark.parametrize("frame", [b"", bytes(15), bytes(16)])
def test_frame_without_a_valid_tag_fails(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        ciphers()[0].decrypt(frame)


def test_cipher_is_dead_after_a_failed_decryption() -> None:
    """T-54."""
    client, server = ciphers()
    with pytest.raises(RemoteProtocolError):
        server.decrypt(b"garbage")
    with pytest.raises(LocalProtocolError, match="out of step"):
        server.decrypt(client.encrypt(b"text"))
    with pytest.raises(LocalProtocolError, match="out of step"):
        server.encrypt(b"text")


class _Interrupted:
    """A cipher that has encrypted when it is interrupted, and remembers what it used."""

    def __init__(self) -> None:
        self.aead = AESGCM(bytes(32))
        self.used: list[bytes] = []
        self.interrupts = False

    def encrypt(self, nonce: bytes, plaintext: bytes, aad: None) -> bytes:
        self.used.append(nonce)
        if self.interrupts:
            raise MemoryError
        return self.aead.encrypt(nonce, plaintext, aad)


def test_nonce_is_never_used_twice_whatever_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    """T-54: a counter is spent before it is used."""
    interrupted = _Interrupted()
    monkeypatch.setattr(noise, "AESGCM", lambda key: interrupted)
    cipher = TransportCipher(bytes(32), bytes(32))
    cipher.encrypt(b"first")
    interrupted.interrupts = True
    with pytest.raises(MemoryError):
        cipher.encrypt(b"second")
    interrupted.interrupts = False
    cipher.encrypt(b"third")
    assert len(set(interrupted.used)) == len(interrupted.used) == 3


def test_last_nonce_is_used_and_none_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "MAX_COUNTER", 1)
    client, server = ciphers()
    assert [server.decrypt(client.encrypt(b"text")) for _ in range(2)] == [b"text"] * 2
    with pytest.raises(LocalProtocolError, match="used up"):
        client.encrypt(b"text")


def test_frame_past_the_last_nonce_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    client, server = ciphers()
    frames = [client.encrypt(b"text") for _ in range(3)]
    monkeypatch.setattr(noise, "MAX_COUNTER", 1)
    assert [server.decrypt(frame) for frame in frames[:2]] == [b"text"] * 2
    with pytest.raises(RemoteProtocolError, match="past the last"):
        server.decrypt(frames[2])


# --- Certificates ---

STATIC = KeyPair.generate()
INTERMEDIATE = KeyPair.generate()


def chain(
    *,
    leaf: Callable[[Details], object] = lambda details: None,
    intermediate: Callable[[Details], object] = lambda details: None,
    finish: Callable[[CertChain], object] = lambda made: None,
    leaf_signer: KeyPair = INTERMEDIATE,
    root: KeyPair = ROOT,
) -> bytes:
    """A good chain with one thing changed; signatures are made after the change of details."""
    validity = {"notBefore": int(NOW) - DAY_S, "notAfter": int(NOW) + DAY_S}
    leaf_details = Details(serial=9, issuerSerial=7, key=STATIC.public_key, **validity)
    leaf(leaf_details)
    intermediate_details = Details(
        serial=7, issuerSerial=0, key=INTERMEDIATE.public_key, **validity
    )
    intermediate(intermediate_details)
    made = CertChain()
    for certificate, details, signer in (
        (made.leaf, leaf_details, leaf_signer),
        (made.intermediate, intermediate_details, root),
    ):
        certificate.details = details.SerializeToString()
        certificate.signature = sign(signer.private_key, certificate.details)
    finish(made)
    return made.SerializeToString()


def check(payload: bytes, now: float = NOW) -> None:
    verify_certificate_chain(payload, STATIC.public_key, ROOT.public_key, now)


def set_field(name: str, value: int | bytes) -> Callable[[Details], object]:
    return lambda details: setattr(details, name, value)


def test_good_chain_is_accepted() -> None:
    check(chain())


def test_chain_of_the_vector_is_accepted() -> None:
    verify_certificate_chain(
        bytes.fromhex(SERVER["cert_chain_plain"]),
        pair("server_static_priv", SERVER).public_key,
        bytes.fromhex(SERVER["fake_root_pub"]),
        NOW,
    )


def test_generated_chain_is_accepted() -> None:
    verify_certificate_chain(
        SERVER_KEYS.certificate_chain, SERVER_KEYS.static.public_key, ROOT.public_key, NOW
    )


def test_absent_issuer_of_the_intermediate_means_the_root() -> None:
    check(chain(intermediate=lambda details: details.ClearField("issuerSerial")))


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        (lambda made: made.ClearField("leaf"), "leaf has no details"),
        (lambda made: made.ClearField("intermediate"), "intermediate has no details"),
        (lambda made: made.leaf.ClearField("signature"), "leaf's signature"),
        (lambda made: made.intermediate.ClearField("signature"), "intermediate's signature"),
        (lambda made: setattr(made.leaf, "signature", bytes(63)), "leaf's signature"),
    ],
)
def test_check_1_refuses_missing_parts(finish: Callable[[CertChain], object], reason: str) -> None:
    with pytest.raises(HandshakeError, match=reason):
        check(chain(finish=finish))


@pytest.mark.parametrize("value", [b"", bytes(31)])
def test_check_1_refuses_short_keys(value: bytes) -> None:
    with pytest.raises(HandshakeError, match="leaf's key"):
        check(chain(leaf=set_field("key", value)))
    with pytest.raises(HandshakeError, match="intermediate's key"):
        check(chain(intermediate=set_field("key", value)))


def test_check_2_refuses_an_intermediate_the_root_did_not_sign() -> None:
    with pytest.raises(HandshakeError, match="root key did not sign"):
        check(chain(root=KeyPair.generate()))


def test_check_3_refuses_an_intermediate_of_another_issuer() -> None:
    with pytest.raises(HandshakeError, match="intermediate names another issuer"):
        check(chain(intermediate=set_field("issuerSerial", 1)))


def test_check_4_refuses_a_leaf_the_intermediate_did_not_sign() -> None:
    with pytest.raises(HandshakeError, match="intermediate did not sign"):
        check(chain(leaf_signer=ROOT))


def test_check_5_refuses_a_leaf_of_another_issuer() -> None:
    with pytest.raises(HandshakeError, match="leaf names another issuer"):
        check(chain(leaf=set_field("issuerSerial", 8)))


def test_check_6_refuses_a_genuine_chain_before_another_key() -> None:
    other = KeyPair.generate().public_key
    with pytest.raises(HandshakeError, match="another static key"):
        verify_certificate_chain(chain(), other, ROOT.public_key, NOW)


@pytest.mark.parametrize("which", ["leaf", "intermediate"])
def test_check_7_refuses_what_has_expired(which: str) -> None:
    expired = set_field("notAfter", int(NOW - CLOCK_SKEW_S) - 1)
    payload = chain(leaf=expired) if which == "leaf" else chain(intermediate=expired)
    with pytest.raises(HandshakeError, match=f"{which} has expired"):
        check(payload)


@pytest.mark.parametrize("which", ["leaf", "intermediate"])
def test_check_7_refuses_what_is_not_valid_yet(which: str) -> None:
    future = set_field("notBefore", int(NOW + CLOCK_SKEW_S) + 1)
    payload = chain(leaf=future) if which == "leaf" else chain(intermediate=future)
    with pytest.raises(HandshakeError, match=f"{which} is not valid yet"):
        check(payload)


def test_check_7_refuses_a_certificate_without_an_end() -> None:
    with pytest.raises(HandshakeError, match="leaf has expired"):
        check(chain(leaf=lambda details: details.ClearField("notAfter")))


@pytest.mark.parametrize("sign_of_skew", [-1, 1])
def test_clock_may_be_a_little_wrong(sign_of_skew: int) -> None:
    check(chain(), NOW + sign_of_skew * (DAY_S + CLOCK_SKEW_S))


def test_skew_can_be_forbidden() -> None:
    with pytest.raises(HandshakeError, match="expired"):
        verify_certificate_chain(
            chain(), STATIC.public_key, ROOT.public_key, NOW + DAY_S + 1, clock_skew_s=0
        )


@pytest.mark.parametrize("which", ["chain", "leaf", "intermediate"])
def test_chain_that_does_not_parse_is_refused(which: str) -> None:
    garbage = b"\xff"
    payloads = {
        "chain": garbage,
        "leaf": chain(finish=lambda made: setattr(made.leaf, "details", garbage)),
        "intermediate": chain(finish=lambda made: setattr(made.intermediate, "details", garbage)),
    }
    with pytest.raises(HandshakeError, match="does not parse"):
        check(payloads[which])


@given(payload=st.binary(max_size=300))
def test_any_bytes_as_a_chain_are_refused(payload: bytes) -> None:
    with pytest.raises(HandshakeError):
        check(payload)


def test_server_under_another_root_is_refused() -> None:
    client = initiator(root_key=WHATSAPP_ROOT_KEY)
    hello = answered(ResponderHandshake(SERVER_KEYS).receive(client.client_hello))
    with pytest.raises(HandshakeError, match="root key did not sign"):
        client.receive(hello)
    assert client.cipher is None
