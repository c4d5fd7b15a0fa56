from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given
from hypothesis import strategies as st

from sitpayd.whatsapp import noise
from sitpayd.whatsapp.crypto import sign
from sitpayd.whatsapp.errors import (
    HandshakeError,
    LocalProtocolError,
    RemoteProtocolError,
    ResumptionError,
)
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.noise import (
    CLOCK_SKEW_S,
    WHATSAPP_ROOT_KEY,
    InitiatorHandshake,
    KnownServer,
    Pattern,
    ResponderHandshake,
    Resumption,
    ServerKeys,
    TransportCipher,
    verify_certificate_chain,
)
from sitpayd.whatsapp.schema.whatsapp_pb2 import CertChain, HandshakeMessage

VECTORS = json.loads((Path(__file__).parent / "vectors" / "noise.json").read_text())
VECTOR, SERVER = VECTORS["handshakes"][0], VECTORS["server"]
RESUMPTIONS = json.loads((Path(__file__).parent / "vectors" / "noise_resumption.json").read_text())

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


# --- Resumption ---

KNOWN = KnownServer(SERVER_KEYS.static.public_key, NOW - DAY_S, NOW + DAY_S)


def resuming(known: KnownServer = KNOWN, root_key: bytes = ROOT.public_key) -> InitiatorHandshake:
    return InitiatorHandshake(
        noise=CLIENT, payload=b"login", root_key=root_key, now=NOW, server=known
    )


def renewed() -> ServerKeys:
    return ServerKeys.generate(ROOT, NOW)


def shaken(client: InitiatorHandshake, server: ResponderHandshake) -> None:
    """Complete a handshake, whatever becomes of it, and try its keys in both directions."""
    finish = client.receive(answered(server.receive(client.client_hello)))
    if finish:
        assert server.receive(finish) is None
    assert client.cipher is not None
    assert server.cipher is not None
    assert server.cipher.decrypt(client.cipher.encrypt(b"up")) == b"up"
    assert client.cipher.decrypt(server.cipher.encrypt(b"down")) == b"down"


class Parts:
    """The parts of one message of a public vector, as WhatsApp's messages hold them."""

    def __init__(self, vector: dict[str, list[dict[str, str]]], index: int) -> None:
        message = vector["messages"][index]
        self.payload = bytes.fromhex(message["payload"])
        self._left = bytes.fromhex(message["ciphertext"])

    def take(self, length: int) -> bytes:
        taken, self._left = self._left[:length], self._left[length:]
        return taken

    def rest(self) -> bytes:
        return self._left


def resumption_of(vector: dict[str, str], messages: Parts) -> InitiatorHandshake:
    return InitiatorHandshake(
        noise=pair("init_static", vector),
        payload=messages.payload,
        root_key=ROOT.public_key,
        now=NOW,
        server=replace(KNOWN, static_key=bytes.fromhex(vector["init_remote_static"])),
        ephemeral=pair("init_ephemeral", vector),
    )


def responder_of(vector: dict[str, str], payload: bytes) -> ResponderHandshake:
    keys = ServerKeys(pair("resp_static", vector), payload)
    return ResponderHandshake(keys, ephemeral=pair("resp_ephemeral", vector))


def test_resumption_reproduces_the_public_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    vector = RESUMPTIONS["ik"]
    monkeypatch.setattr(noise, "PROLOGUE", bytes.fromhex(vector["prologue"]))
    first, second = Parts(vector, 0), Parts(vector, 1)
    client, server = resumption_of(vector, first), responder_of(vector, second.payload)
    hello = HandshakeMessage.FromString(client.client_hello).clientHello
    assert (hello.ephemeral, hello.static) == (first.take(32), first.take(48))
    assert hello.payload == first.rest()

    answer = answered(server.receive(client.client_hello))
    parsed = HandshakeMessage.FromString(answer).serverHello
    assert (parsed.ephemeral, parsed.payload) == (second.take(32), second.rest())
    assert client.receive(answer) == b""
    assert client.handshake_hash == server.handshake_hash
    assert client.handshake_hash.hex() == vector["handshake_hash"]
    assert client.cipher is not None
    assert server.cipher is not None
    third, fourth = Parts(vector, 2), Parts(vector, 3)
    assert client.cipher.encrypt(third.payload) == third.rest()
    assert server.cipher.encrypt(fourth.payload) == fourth.rest()


def test_fallback_reproduces_the_public_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    vector = RESUMPTIONS["xxfallback"]
    monkeypatch.setattr(noise, "PROLOGUE", bytes.fromhex(vector["prologue"]))
    # The payload of a public vector is no certificate chain.
    monkeypatch.setattr(noise, "verify_certificate_chain", lambda *_: KNOWN)
    first, second, third = (Parts(vector, index) for index in range(3))
    client, server = resumption_of(vector, first), responder_of(vector, second.payload)
    hello = HandshakeMessage.FromString(client.client_hello).clientHello
    assert hello.ephemeral + hello.static + hello.payload == first.rest()

    answer = answered(server.receive(client.client_hello))
    parsed = HandshakeMessage.FromString(answer).serverHello
    assert parsed.ephemeral + parsed.static + parsed.payload == second.rest()
    # The client of this vector says something else in its last message than in its first.
    client._payload = third.payload
    finish = client.receive(answer)
    last = HandshakeMessage.FromString(finish).clientFinish
    assert last.static + last.payload == third.rest()
    server.receive(finish)
    assert client.handshake_hash == server.handshake_hash
    assert client.handshake_hash.hex() == vector["handshake_hash"]
    # Noise counts the server as the initiator of a fallback, so there its key is the first one.
    # WhatsApp Web and whatsapp-rust leave the first one to the client, as in XX.
    assert client.cipher is not None
    fourth = Parts(vector, 3)
    assert client.cipher.encrypt(fourth.payload) == fourth.rest()


def test_full_handshake_gives_what_it_takes_to_resume() -> None:
    client, server = initiator(), ResponderHandshake(SERVER_KEYS)
    shaken(client, server)
    assert client.server is not None
    assert client.server.static_key == SERVER_KEYS.static.public_key
    assert client.server.is_valid_at(NOW)


def test_client_resumes_with_a_server_it_knows() -> None:
    client, server = resuming(), ResponderHandshake(SERVER_KEYS)
    shaken(client, server)
    assert client.pattern is server.pattern is Pattern.IK
    assert client.server == KNOWN


def test_responder_learns_payload_and_key_from_the_first_message_of_a_resumption() -> None:
    server = ResponderHandshake(SERVER_KEYS)
    server.receive(resuming().client_hello)
    assert (server.client_payload, server.client_static) == (b"login", CLIENT.public_key)


def test_payload_of_a_resumption_cannot_be_read_on_the_way() -> None:
    hello = HandshakeMessage.FromString(resuming().client_hello).clientHello
    assert b"login" not in hello.payload
    assert CLIENT.public_key not in hello.static


def test_server_with_new_keys_is_verified_anew() -> None:
    keys = renewed()
    client, server = resuming(), ResponderHandshake(keys)
    shaken(client, server)
    assert client.pattern is server.pattern is Pattern.XX_FALLBACK
    assert client.server is not None
    assert client.server.static_key == keys.static.public_key


def test_server_that_refuses_to_resume_gets_a_full_handshake() -> None:
    client = resuming()
    server = ResponderHandshake(SERVER_KEYS, resumption=Resumption.REFUSE)
    shaken(client, server)
    assert client.pattern is server.pattern is Pattern.XX_FALLBACK


def test_server_that_knows_of_no_resumption_is_no_proof_of_anything() -> None:
    client = resuming()
    server = ResponderHandshake(SERVER_KEYS, resumption=Resumption.IGNORE)
    with pytest.raises(ResumptionError):
        client.receive(answered(server.receive(client.client_hello)))


@pytest.mark.parametrize(
    ("not_before", "not_after", "pattern"),
    [
        (NOW - 1, NOW + 1, Pattern.IK),
        (NOW, NOW + 1, Pattern.IK),
        (NOW - 1, NOW, Pattern.XX),
        (NOW + 1, NOW + 2, Pattern.XX),
    ],
)
def test_server_whose_certificates_do_not_hold_is_not_resumed_with(
    not_before: float, not_after: float, pattern: Pattern
) -> None:
    assert resuming(KnownServer(KNOWN.static_key, not_before, not_after)).pattern is pattern


def test_what_is_known_of_a_server_ends_with_the_first_of_its_certificates() -> None:
    made = chain(
        leaf=set_field("notBefore", int(NOW) - 5), intermediate=set_field("notAfter", int(NOW) + 7)
    )
    known = verify_certificate_chain(made, STATIC.public_key, ROOT.public_key, NOW)
    assert known == KnownServer(STATIC.public_key, int(NOW) - 5, int(NOW) + 7)


def test_impostor_without_the_known_static_key_is_refused() -> None:
    # It has a valid chain, and answers a resumption that it cannot read as if it could.
    client = resuming()
    impostor = InitiatorHandshake(
        noise=CLIENT,
        payload=b"login",
        root_key=ROOT.public_key,
        now=NOW,
        server=replace(KNOWN, static_key=(keys := renewed()).static.public_key),
    )
    answer = answered(ResponderHandshake(keys).receive(impostor.client_hello))
    with pytest.raises(ResumptionError, match="certificate chain does not decrypt"):
        client.receive(answer)
    assert client.cipher is None


def test_fallback_does_not_spare_the_certificate_chain() -> None:
    client = resuming(root_key=KeyPair.generate().public_key)
    server = ResponderHandshake(SERVER_KEYS, resumption=Resumption.REFUSE)
    with pytest.raises(ResumptionError, match="root key"):
        client.receive(answered(server.receive(client.client_hello)))
    assert client.cipher is None


def test_replayed_answer_to_a_resumption_is_refused() -> None:
    server, client = ResponderHandshake(SERVER_KEYS), resuming()
    answer = answered(server.receive(resuming().client_hello))
    with pytest.raises(ResumptionError):
        client.receive(answer)


def test_whoever_replays_a_resumption_can_say_nothing() -> None:
    client, server = resuming(), ResponderHandshake(SERVER_KEYS)
    client.receive(answered(server.receive(client.client_hello)))
    assert client.cipher is not None
    recorded = client.cipher.encrypt(b"text")
    again = ResponderHandshake(SERVER_KEYS)
    answer = HandshakeMessage.FromString(answered(again.receive(client.client_hello)))
    assert again.cipher is not None
    with pytest.raises(RemoteProtocolError):
        again.cipher.decrypt(recorded)
    # Nor does the answer to it fit the one who was recorded.
    with pytest.raises(ResumptionError):
        resuming().receive(answer.SerializeToString())


@given(bit=st.integers(0, 109 * 8 - 1))
def test_flipped_bit_in_a_resumption_never_lets_it_resume(bit: int) -> None:
    client, server = resuming(), ResponderHandshake(SERVER_KEYS)
    with suppress(HandshakeError, ResumptionError):
        answer = answered(server.receive(flipped(client.client_hello, bit)))
        server.receive(client.receive(answer))
    assert server.pattern is not Pattern.IK or server.cipher is None
    assert client.pattern is not Pattern.IK or client.cipher is None


@given(bit=st.integers(min_value=0, max_value=400 * 8))
def test_flipped_bit_in_the_answer_to_a_resumption_fails(bit: int) -> None:
    client, server = resuming(), ResponderHandshake(SERVER_KEYS)
    answer = answered(server.receive(client.client_hello))
    with pytest.raises(ResumptionError):
        client.receive(flipped(answer, bit))


@given(missing=st.integers(1, len(resuming().client_hello)))
def test_truncated_resumption_never_lets_it_resume(missing: int) -> None:
    server = ResponderHandshake(SERVER_KEYS)
    with suppress(HandshakeError):
        server.receive(resuming().client_hello[:-missing])
    assert server.cipher is None


@given(missing=st.integers(1, 300))
def test_truncated_answer_to_a_resumption_fails(missing: int) -> None:
    client, server = resuming(), ResponderHandshake(SERVER_KEYS)
    answer = answered(server.receive(client.client_hello))
    with pytest.raises(ResumptionError):
        client.receive(answer[:-missing])


@given(message=st.binary(max_size=200))
@example(b"")
def test_any_bytes_as_answer_to_a_resumption_are_refused(message: bytes) -> None:
    with pytest.raises(ResumptionError):
        resuming().receive(message)


@pytest.mark.parametrize("ephemeral", [bytes(32), b"\x01" + bytes(31), bytes(31)])
def test_weak_or_short_ephemeral_key_of_either_side_does_not_resume(ephemeral: bytes) -> None:
    server = ResponderHandshake(SERVER_KEYS)
    hello = HandshakeMessage.FromString(resuming().client_hello)
    hello.clientHello.ephemeral = ephemeral
    with pytest.raises(HandshakeError):
        server.receive(hello.SerializeToString())
    client = resuming()
    answer = HandshakeMessage.FromString(
        answered(ResponderHandshake(SERVER_KEYS).receive(client.client_hello))
    )
    answer.serverHello.ephemeral = ephemeral
    with pytest.raises(ResumptionError):
        client.receive(answer.SerializeToString())


def test_resumption_with_a_short_static_key_is_not_taken() -> None:
    server = ResponderHandshake(SERVER_KEYS)
    client = _CutClient(noise=CLIENT, payload=b"x", root_key=ROOT.public_key, now=NOW, server=KNOWN)
    server.receive(client.client_hello)
    assert (server.pattern, server.cipher) == (Pattern.XX_FALLBACK, None)


def test_resumption_without_a_payload_is_refused() -> None:
    client = _MuteClient(
        noise=CLIENT, payload=b"x", root_key=ROOT.public_key, now=NOW, server=KNOWN
    )
    with pytest.raises(HandshakeError, match="client's payload is empty"):
        ResponderHandshake(SERVER_KEYS).receive(client.client_hello)


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
