from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.connection import MAX_HANDSHAKE_LEN, MAX_STANZA_LEN, Connection
from sitpayd.whatsapp.errors import (
    HandshakeError,
    LocalProtocolError,
    RemoteProtocolError,
    ResumptionError,
)
from sitpayd.whatsapp.events import Event, HandshakeCompleted, NodeReceived, NodeRejected
from sitpayd.whatsapp.frames import PROLOGUE, encode_frame
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import KnownServer, Pattern, Resumption, ServerKeys
from tests.support.strategies import chunked, nodes

VECTORS = json.loads((Path(__file__).parent / "vectors" / "noise.json").read_text())
SERVER = VECTORS["server"]
VECTOR_IDS = ["plain", "edge_routing"]

NOW = 1_760_000_000.0
ROOT = KeyPair.generate()
CLIENT = KeyPair.generate()
SERVER_KEYS = ServerKeys.generate(ROOT, NOW)
PING = Node("iq", {"type": "get"}, (Node("ping"),))
PONG = Node("iq", {"type": "result"})


def new_client(
    *,
    root_key: bytes = ROOT.public_key,
    now: float = NOW,
    routing_info: bytes | None = None,
    server: KnownServer | None = None,
) -> Connection:
    return Connection.initiator(
        noise=CLIENT,
        payload=b"login",
        root_key=root_key,
        now=now,
        routing_info=routing_info,
        server=server,
    )


def new_server() -> Connection:
    return Connection.responder(SERVER_KEYS)


def greeted(server: Connection) -> Connection:
    """A server that has seen a client's prologue and first message."""
    server.receive(outgoing(new_client()))
    return server


def outgoing(connection: Connection) -> bytes:
    return b"".join(connection.data_to_send())


def connected() -> tuple[Connection, Connection]:
    """A client and a server after their handshake."""
    client, server = new_client(), new_server()
    server.receive(outgoing(client))
    client.receive(outgoing(server))
    server.receive(outgoing(client))
    return client, server


def pair(hexadecimal: str) -> KeyPair:
    return KeyPair.from_private(bytes.fromhex(hexadecimal))


def vector_client(vector: dict[str, str]) -> Connection:
    routing_info = vector["routing_info"]
    return Connection.initiator(
        noise=pair(vector["client_noise_static_priv"]),
        payload=bytes.fromhex(vector["client_payload_plain"]),
        root_key=bytes.fromhex(SERVER["fake_root_pub"]),
        now=NOW,
        routing_info=bytes.fromhex(routing_info) if routing_info else None,
        ephemeral=pair(vector["client_ephemeral_priv"]),
    )


def vector_server() -> Connection:
    keys = ServerKeys(
        static=pair(SERVER["server_static_priv"]),
        certificate_chain=bytes.fromhex(SERVER["cert_chain_plain"]),
    )
    return Connection.responder(keys, ephemeral=pair(SERVER["server_ephemeral_priv"]))


# --- Vectors ---


@pytest.mark.parametrize("vector", VECTORS["handshakes"], ids=VECTOR_IDS)
def test_initiator_reproduces_the_vector(vector: dict[str, str]) -> None:
    client = vector_client(vector)
    assert outgoing(client).hex() == vector["frame1_client_hello_with_prologue"]

    hello = encode_frame(bytes.fromhex(vector["server_hello_message"]))
    assert client.receive(hello) == [HandshakeCompleted(None, None, None)]
    assert outgoing(client).hex() == vector["client_finish_frame"]

    client.send_encoded(bytes.fromhex(vector["transport_plain"]))
    client.send_encoded(bytes.fromhex(vector["transport_plain"]))
    frames = [frame.hex() for frame in client.data_to_send()]
    assert frames == [vector["transport_frame_0"], vector["transport_frame_1"]]


@pytest.mark.parametrize("vector", VECTORS["handshakes"], ids=VECTOR_IDS)
def test_responder_reproduces_the_vector(vector: dict[str, str]) -> None:
    server = vector_server()
    assert server.receive(bytes.fromhex(vector["frame1_client_hello_with_prologue"])) == []
    assert outgoing(server) == encode_frame(bytes.fromhex(vector["server_hello_message"]))

    routing_info = vector["routing_info"]
    assert server.receive(bytes.fromhex(vector["client_finish_frame"])) == [
        HandshakeCompleted(
            client_payload=bytes.fromhex(vector["client_payload_plain"]),
            client_static=pair(vector["client_noise_static_priv"]).public_key,
            routing_info=bytes.fromhex(routing_info) if routing_info else None,
        )
    ]
    frames = bytes.fromhex(vector["transport_frame_0"] + vector["transport_frame_1"])
    (first, second) = server.receive(frames)
    assert isinstance(first, NodeReceived)
    assert encode(first.node).hex() == vector["transport_plain"]
    assert first == second


# --- Handshake ---


def test_client_speaks_first() -> None:
    (first,) = new_client().data_to_send()
    assert first.startswith(PROLOGUE)


def test_server_waits_for_the_client() -> None:
    assert new_server().data_to_send() == []


def test_server_learns_the_clients_routing_info() -> None:
    client, server = new_client(routing_info=b"edge"), new_server()
    server.receive(outgoing(client))
    client.receive(outgoing(server))
    events = server.receive(outgoing(client))
    assert events == [HandshakeCompleted(b"login", CLIENT.public_key, b"edge")]


def test_stanza_in_the_same_chunk_as_the_last_handshake_message_is_kept() -> None:
    client, server = new_client(), new_server()
    server.receive(outgoing(client))
    client.receive(outgoing(server))
    client.send(PING)
    events = server.receive(outgoing(client))
    assert events[1:] == [NodeReceived(PING)]


@given(
    requests=st.lists(nodes(max_leaves=3), max_size=3),
    replies=st.lists(nodes(max_leaves=3), max_size=3),
    data=st.data(),
)
def test_any_chunking_gives_the_same_events(
    requests: list[Node], replies: list[Node], data: st.DataObject
) -> None:
    client, server = new_client(), new_server()

    def transfer(sender: Connection, receiver: Connection) -> list[Event]:
        chunks = data.draw(chunked(outgoing(sender)))
        return [event for chunk in chunks for event in receiver.receive(chunk)]

    transfer(client, server)
    transfer(server, client)
    for node in requests:
        client.send(node)
    events = transfer(client, server)
    for node in replies:
        server.send(node)
    assert events[1:] == [NodeReceived(node) for node in requests]
    assert transfer(server, client) == [NodeReceived(node) for node in replies]


def test_whole_conversation_survives_single_bytes() -> None:
    client, server = new_client(), new_server()
    for sender, receiver in ((client, server), (server, client), (client, server)):
        for byte in outgoing(sender):
            receiver.receive(bytes((byte,)))
    server.send(PING)
    events = [event for byte in outgoing(server) for event in client.receive(bytes((byte,)))]
    assert events == [NodeReceived(PING)]


def test_client_learns_whom_it_can_resume_with() -> None:
    client, server = connected()
    assert client.server is not None
    assert client.server.static_key == SERVER_KEYS.static.public_key
    assert client.pattern is server.pattern is Pattern.XX
    assert server.server is None


def test_resumption_is_complete_after_one_message_of_each_side() -> None:
    known = connected()[0].server
    client, server = new_client(server=known, routing_info=b"edge"), new_server()
    events = server.receive(outgoing(client))
    assert events == [HandshakeCompleted(b"login", CLIENT.public_key, b"edge")]
    server.send(PING)
    # The first stanza comes in the same chunk as the answer to the resumption.
    events = client.receive(outgoing(server))
    assert events == [HandshakeCompleted(None, None, None), NodeReceived(PING)]
    assert client.data_to_send() == []
    client.send(PONG)
    assert server.receive(outgoing(client)) == [NodeReceived(PONG)]
    assert client.pattern is server.pattern is Pattern.IK
    assert client.server == known


@pytest.mark.parametrize("resumption", [Resumption.ACCEPT, Resumption.REFUSE])
def test_server_that_does_not_take_a_resumption_is_met_anew(resumption: Resumption) -> None:
    known = connected()[0].server
    keys = ServerKeys.generate(ROOT, NOW) if resumption is Resumption.ACCEPT else SERVER_KEYS
    client, server = new_client(server=known), Connection.responder(keys, resumption=resumption)
    server.receive(outgoing(client))
    client.receive(outgoing(server))
    client.send(PING)
    assert server.receive(outgoing(client))[1:] == [NodeReceived(PING)]
    assert client.pattern is server.pattern is Pattern.XX_FALLBACK
    assert client.server is not None
    assert client.server.static_key == keys.static.public_key


def test_server_that_ignores_a_resumption_is_told_nothing() -> None:
    client = new_client(server=connected()[0].server)
    server = Connection.responder(SERVER_KEYS, resumption=Resumption.IGNORE)
    server.receive(outgoing(client))
    with pytest.raises(ResumptionError):
        client.receive(outgoing(server))
    assert client.data_to_send() == []
    assert client.has_spoken


def test_client_has_spoken_once_its_hello_was_handed_over() -> None:
    client = new_client()
    assert not client.has_spoken
    client.data_to_send()
    assert client.has_spoken


def test_server_of_another_root_is_refused() -> None:
    client, server = new_client(root_key=KeyPair.generate().public_key), new_server()
    server.receive(outgoing(client))
    with pytest.raises(HandshakeError, match="root key"):
        client.receive(outgoing(server))


def test_nothing_is_sent_to_a_server_that_was_refused() -> None:
    client, server = new_client(root_key=KeyPair.generate().public_key), new_server()
    server.receive(outgoing(client))
    with pytest.raises(HandshakeError):
        client.receive(outgoing(server))
    assert client.data_to_send() == []


def test_expired_server_is_refused() -> None:
    client, server = new_client(now=NOW + 2 * 365 * 86_400), new_server()
    server.receive(outgoing(client))
    with pytest.raises(HandshakeError, match="expired"):
        client.receive(outgoing(server))


def test_whatsapps_root_key_is_the_default() -> None:
    client = Connection.initiator(noise=CLIENT, payload=b"login", now=NOW)
    server = new_server()
    server.receive(outgoing(client))
    with pytest.raises(HandshakeError, match="root key did not sign"):
        client.receive(outgoing(server))


@pytest.mark.parametrize("role", [new_client, lambda: greeted(new_server())])
def test_long_handshake_message_is_refused_before_it_has_come(
    role: Callable[[], Connection],
) -> None:
    """T-53: nobody is known yet, and memory is taken for nobody."""
    assert role().receive(MAX_HANDSHAKE_LEN.to_bytes(3, "big")) == []
    connection = role()
    with pytest.raises(HandshakeError, match="too long"):
        connection.receive((MAX_HANDSHAKE_LEN + 1).to_bytes(3, "big"))
    with pytest.raises(LocalProtocolError, match="dead"):
        connection.receive(b"")


@pytest.mark.parametrize("role", [new_client, lambda: greeted(new_server())])
def test_long_handshake_message_is_refused_whole(role: Callable[[], Connection]) -> None:
    """T-53: also where it comes at once."""
    with pytest.raises(HandshakeError, match="too long"):
        role().receive(encode_frame(bytes(MAX_HANDSHAKE_LEN + 1)))


def test_long_stanza_may_come_together_with_the_end_of_the_handshake() -> None:
    client, server = new_client(), new_server()
    server.receive(outgoing(client))
    client.receive(outgoing(server))
    long = Node("x", {}, bytes(2 * MAX_HANDSHAKE_LEN))
    client.send(long)
    assert server.receive(outgoing(client))[1:] == [NodeReceived(long)]


def test_server_refuses_a_stranger() -> None:
    with pytest.raises(RemoteProtocolError, match="prologue"):
        new_server().receive(b"GET / HTTP/1.1\r\n")


@given(data=st.binary(max_size=120))
def test_any_bytes_to_a_waiting_client_give_nothing_or_a_remote_error(data: bytes) -> None:
    try:
        assert new_client().receive(data) == []
    except RemoteProtocolError:
        return


@given(data=st.binary(max_size=120))
def test_any_bytes_to_a_server_give_nothing_or_a_remote_error(data: bytes) -> None:
    try:
        assert new_server().receive(PROLOGUE + data) == []
    except RemoteProtocolError:
        return


@given(data=st.binary(max_size=120))
def test_any_bytes_to_an_established_connection_give_nothing_or_a_remote_error(
    data: bytes,
) -> None:
    client, _ = connected()
    try:
        assert client.receive(data) == []
    except RemoteProtocolError:
        return


# --- Stanzas ---


def test_stanzas_go_both_ways() -> None:
    client, server = connected()
    client.send(PING)
    assert server.receive(outgoing(client)) == [NodeReceived(PING)]
    server.send(PONG)
    assert client.receive(outgoing(server)) == [NodeReceived(PONG)]


def test_every_stanza_is_an_item_of_its_own() -> None:
    client, server = connected()
    client.send(PING)
    client.send(PONG)
    first, second = client.data_to_send()
    assert server.receive(first) == [NodeReceived(PING)]
    assert server.receive(second) == [NodeReceived(PONG)]


def test_data_is_handed_over_once() -> None:
    client, _ = connected()
    client.send(PING)
    client.data_to_send()
    assert client.data_to_send() == []


def test_encoded_stanza_is_sent_as_it_is() -> None:
    client, server = connected()
    client.send_encoded(encode(PING))
    assert server.receive(outgoing(client)) == [NodeReceived(PING)]


def test_stanza_that_does_not_decode_is_skipped() -> None:
    client, server = connected()
    server.send_encoded(b"\x00\xf8\x00")
    server.send(PING)
    rejected, received = client.receive(outgoing(server))
    digest = hashlib.sha256(b"\x00\xf8\x00").hexdigest()
    assert rejected == NodeRejected(3, digest, "a node of size 0")
    assert received == NodeReceived(PING)


def test_sending_before_the_handshake_is_our_error() -> None:
    with pytest.raises(LocalProtocolError, match="handshake is not complete"):
        new_client().send(PING)


@pytest.mark.parametrize("length", [0, MAX_STANZA_LEN + 1])
def test_refused_stanza_leaves_the_cipher_in_step(length: int) -> None:
    client, server = connected()
    with pytest.raises(LocalProtocolError, match="cannot be sent"):
        client.send_encoded(bytes(length))
    client.send(PING)
    assert server.receive(outgoing(client)) == [NodeReceived(PING)]


def test_longest_stanza_fits_into_a_frame() -> None:
    client, server = connected()
    client.send_encoded(bytes(MAX_STANZA_LEN))
    (rejected,) = server.receive(outgoing(client))
    assert isinstance(rejected, NodeRejected)
    assert rejected.length == MAX_STANZA_LEN


def test_stanza_that_cannot_be_encoded_leaves_nothing_to_send() -> None:
    client, _ = connected()
    with pytest.raises(LocalProtocolError):
        client.send(Node(""))
    assert client.data_to_send() == []


# --- Failure ---


def test_frame_that_does_not_decrypt_is_fatal() -> None:
    client, _ = connected()
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        client.receive(encode_frame(b"garbage"))
    assert client.has_failed


def test_repeated_frame_is_fatal() -> None:
    client, server = connected()
    server.send(PING)
    frame = outgoing(server)
    client.receive(frame)
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        client.receive(frame)


def test_events_before_a_fatal_frame_are_not_lost() -> None:
    client, server = connected()
    server.send(PING)
    assert client.receive(outgoing(server) + encode_frame(b"garbage")) == [NodeReceived(PING)]
    assert client.has_failed


def test_failure_behind_events_is_raised_next_time() -> None:
    client, server = connected()
    server.send(PING)
    client.receive(outgoing(server) + encode_frame(b"garbage"))
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        client.receive(b"")


def test_handshake_completed_before_a_fatal_frame_is_not_lost() -> None:
    client, server = new_client(), new_server()
    server.receive(outgoing(client))
    client.receive(outgoing(server))
    events = server.receive(outgoing(client) + encode_frame(b"garbage"))
    assert events == [HandshakeCompleted(b"login", CLIENT.public_key, None)]
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        server.receive(b"")


def test_stanza_sent_while_a_failure_waits_is_dropped() -> None:
    client, server = connected()
    server.send(PING)
    client.receive(outgoing(server) + encode_frame(b"garbage"))
    client.send(PONG)
    assert client.data_to_send() == []


def test_dead_connection_refuses_to_go_on() -> None:
    client, _ = connected()
    with pytest.raises(RemoteProtocolError):
        client.receive(encode_frame(b"garbage"))
    with pytest.raises(LocalProtocolError, match="dead"):
        client.receive(b"")
    with pytest.raises(LocalProtocolError, match="dead"):
        client.send(PING)


def test_healthy_connection_has_not_failed() -> None:
    client, server = connected()
    assert not client.has_failed
    assert not server.has_failed


@given(bit=st.integers(min_value=0))
def test_flipped_bit_never_yields_a_stanza(bit: int) -> None:
    client, server = connected()
    server.send(PING)
    frame = bytearray(outgoing(server))
    frame[bit // 8 % len(frame)] ^= 1 << bit % 8
    try:
        assert client.receive(bytes(frame)) == []
    except RemoteProtocolError:
        return
