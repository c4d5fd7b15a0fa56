"""T-51, T-53 and T-54: streams cut anywhere, and peers that break the handshake or the order.

What single functions refuse is told beside them (test_frames.py, test_noise.py); here stand whole
connections.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise, permutations

import pytest

from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.errors import HandshakeError, LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.events import Event, HandshakeCompleted, NodeReceived
from sitpayd.whatsapp.frames import FrameDecoder, client_prologue, encode_frame
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import InitiatorHandshake, ResponderHandshake, ServerKeys
from sitpayd.whatsapp.schema.whatsapp_pb2 import HandshakeMessage
from tests.whatsapp.test_noise import (
    CLIENT,
    INTERMEDIATE,
    NOW,
    ROOT,
    SERVER_KEYS,
    STATIC,
    answered,
    chain,
    initiator,
    set_field,
)

THREE = (b"first", b"", b"third frame")
STANZAS = tuple(Node("iq", {"id": str(number)}) for number in range(3))
# Curve points of small order in every encoding: multiplied with any private key they give zero.
SMALL_ORDER = (
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
)


def new_client() -> Connection:
    return Connection.initiator(noise=CLIENT, payload=b"login", root_key=ROOT.public_key, now=NOW)


def sent(connection: Connection) -> list[bytes]:
    """Every frame that waits, whole."""
    return connection.data_to_send()


def connected() -> tuple[Connection, Connection]:
    client, server = new_client(), Connection.responder(SERVER_KEYS)
    server.receive(b"".join(sent(client)))
    client.receive(b"".join(sent(server)))
    server.receive(b"".join(sent(client)))
    return client, server


def pieces(stream: bytes, *cuts: int) -> list[bytes]:
    return [stream[start:stop] for start, stop in pairwise((0, *cuts, len(stream)))]


def frames_of(stream_pieces: list[bytes]) -> list[bytes]:
    decoder = FrameDecoder()
    return [frame for piece in stream_pieces for frame in decoder.receive(piece)]


# --- framing ---


def test_three_frames_come_out_of_every_split() -> None:
    """T-51: one byte at a time, and cut at any two places, inside the lengths as well."""
    stream = b"".join(map(encode_frame, THREE))
    assert frames_of(pieces(stream, *range(1, len(stream)))) == list(THREE)
    for cuts in combinations(range(len(stream) + 1), 2):
        assert frames_of(pieces(stream, *cuts)) == list(THREE), cuts


def test_stanzas_come_out_of_every_split() -> None:
    """T-51: through the cipher, too, whose order is the frames'."""
    client, server = connected()
    decrypted: list[list[Event]] = []
    length = len(encode_frame(encode(STANZAS[0]))) + 16
    for cut in range(3 * length + 1):
        for stanza in STANZAS:
            server.send(stanza)
        stream = b"".join(sent(server))
        decrypted.append([e for piece in pieces(stream, cut) for e in client.receive(piece)])
    assert decrypted == [[NodeReceived(stanza) for stanza in STANZAS]] * len(decrypted)


def test_longest_length_waits_and_takes_no_memory() -> None:
    """T-51: 0xFFFFFF announces 16 MiB; what is kept is what came."""
    decoder = FrameDecoder()
    assert decoder.receive(b"\xff\xff\xff" + b"x" * 100) == []
    assert decoder.awaited_len == 0xFFFFFF
    assert decoder.receive(b"y" * (0xFFFFFF - 101)) == []
    assert [len(frame) for frame in decoder.receive(b"z\0\0")] == [0xFFFFFF]
    assert decoder.receive(b"\1a") == [b"a"]
    assert decoder.awaited_len == 0


def test_frames_of_no_length_are_frames() -> None:
    """T-51: and to an established connection they are no ciphertexts."""
    assert frames_of([b"\0\0", b"\0\0\0\0"]) == [b"", b""]
    client, _ = connected()
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        client.receive(b"\0\0\0")


# --- handshake ---


def hello_of(server: ResponderHandshake, client: InitiatorHandshake) -> bytes:
    return answered(server.receive(client.client_hello))


def hear(server: ResponderHandshake, *messages: bytes) -> None:
    for message in messages:
        server.receive(message)


def refused(client: InitiatorHandshake, message: bytes) -> None:
    """Nothing is answered, and nothing is left of it."""
    with pytest.raises(HandshakeError):
        client.receive(message)
    assert client.cipher is None


def test_truncated_messages_are_refused() -> None:
    """T-53: at every length."""
    hello = hello_of(ResponderHandshake(SERVER_KEYS), client := initiator())
    finish = client.receive(hello)
    for length in range(len(hello)):
        refused(initiator(), hello[:length])
    for length in range(len(finish)):
        server = ResponderHandshake(SERVER_KEYS)
        server.receive(client.client_hello)
        with pytest.raises(HandshakeError):
            server.receive(finish[:length])
        assert (server.cipher, server.client_static, server.client_payload) == (None, None, None)


def test_messages_out_of_order_are_refused() -> None:
    """T-53: whoever sends what, only the one order goes through."""
    client, server = initiator(), ResponderHandshake(SERVER_KEYS)
    hello = hello_of(server, client)
    finish = client.receive(hello)
    refused(initiator(), client.client_hello)
    refused(initiator(), finish)
    for first, second in permutations((client.client_hello, hello, finish), 2):
        if (first, second) == (client.client_hello, finish):
            continue
        other = ResponderHandshake(SERVER_KEYS)
        with pytest.raises(HandshakeError):
            hear(other, first, second)
        assert other.cipher is None


def test_second_server_hello_ends_the_connection() -> None:
    """T-53: behind the handshake it is a ciphertext that does not decrypt."""
    client, server = new_client(), Connection.responder(SERVER_KEYS)
    server.receive(b"".join(sent(client)))
    hello = b"".join(sent(server))
    assert client.receive(hello) == [HandshakeCompleted(None, None, None)]
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        client.receive(hello)


def test_recorded_handshake_lets_nobody_in() -> None:
    """T-53: each side draws fresh keys, which a recording does not know."""
    client, server = initiator(), ResponderHandshake(SERVER_KEYS)
    hello = hello_of(server, client)
    finish = client.receive(hello)
    refused(initiator(), hello)
    replayed = ResponderHandshake(SERVER_KEYS)
    replayed.receive(client.client_hello)
    with pytest.raises(HandshakeError):
        replayed.receive(finish)
    assert replayed.cipher is None


@pytest.mark.parametrize("key", SMALL_ORDER, ids=bytes.hex)
def test_keys_of_small_order_are_refused(key: bytes) -> None:
    """T-53: with one of them everybody would know the secret. Ephemeral ones and static ones."""
    greeting = HandshakeMessage(clientHello=HandshakeMessage.ClientHello(ephemeral=key))
    with pytest.raises(HandshakeError, match="unusable"):
        ResponderHandshake(SERVER_KEYS).receive(greeting.SerializeToString())
    hello = HandshakeMessage.ServerHello(ephemeral=key, static=bytes(48), payload=bytes(16))
    refused(initiator(), HandshakeMessage(serverHello=hello).SerializeToString())
    weak = ServerKeys(KeyPair(STATIC.private_key, key), chain(leaf=set_field("key", key)))
    client = initiator()
    with pytest.raises(HandshakeError, match="unusable"):
        client.receive(hello_of(ResponderHandshake(weak), client))
    server = ResponderHandshake(SERVER_KEYS)
    stranger = InitiatorHandshake(
        noise=KeyPair(CLIENT.private_key, key), payload=b"x", root_key=ROOT.public_key, now=NOW
    )
    with pytest.raises(HandshakeError, match="unusable"):
        server.receive(stranger.receive(hello_of(server, stranger)))
    assert server.cipher is None


DAY_BEFORE = int(NOW) - 86_400
WRONG: dict[str, Callable[[], bytes]] = {
    "1 parts": lambda: chain(finish=lambda made: made.ClearField("intermediate")),
    "2 root": lambda: chain(root=KeyPair.generate()),
    "3 issuer": lambda: chain(intermediate=set_field("issuerSerial", 1)),
    "4 leaf": lambda: chain(leaf_signer=ROOT),
    "5 serial": lambda: chain(leaf=set_field("issuerSerial", 8)),
    "6 key": lambda: chain(leaf=set_field("key", INTERMEDIATE.public_key)),
    "7 time": lambda: chain(leaf=set_field("notAfter", DAY_BEFORE)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_server_with_a_wrong_certificate_hears_nothing_more(wrong: str) -> None:
    """T-53: each of the seven checks, seen from the connection: not a byte answers it."""
    client = new_client()
    server = Connection.responder(ServerKeys(STATIC, WRONG[wrong]()))
    server.receive(b"".join(sent(client)))
    with pytest.raises(HandshakeError, match="certificate chain"):
        client.receive(b"".join(sent(server)))
    assert client.data_to_send() == []
    with pytest.raises(LocalProtocolError, match="dead"):
        client.send(STANZAS[0])


def test_server_with_a_right_certificate_is_let_in() -> None:
    """T-53: the chains above fail for what is wrong with them alone."""
    client = new_client()
    server = Connection.responder(ServerKeys(STATIC, chain()))
    server.receive(b"".join(sent(client)))
    assert client.receive(b"".join(sent(server))) == [HandshakeCompleted(None, None, None)]


def test_prologue_in_front_of_nothing_is_waited_for() -> None:
    """T-53: the server's side of a beginning that never goes on."""
    server = Connection.responder(SERVER_KEYS)
    for byte in client_prologue(b"edge"):
        assert server.receive(bytes((byte,))) == []
    assert server.data_to_send() == []


# --- order ---


def five_frames() -> tuple[Connection, list[bytes]]:
    """A client, and what a server sends it."""
    client, server = connected()
    for number in range(5):
        server.send(Node("iq", {"id": str(number)}))
    return client, sent(server)


def deliver(client: Connection, chunks: list[bytes], events: list[Event]) -> None:
    """Hand over what comes; a failure behind what was told is told by the next call."""
    for chunk in chunks:
        events += client.receive(chunk)
    client.receive(b"")


@pytest.mark.parametrize(
    ("order", "read"),
    [
        ((0, 1, 1, 2, 3), 2),  # replayed at once
        ((0, 1, 2, 0, 3), 3),  # replayed later
        ((0, 2, 3, 4), 1),  # dropped
        ((1, 0, 2, 3), 0),  # reordered
        ((4, 3, 2, 1, 0), 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("together", [True, False])
def test_frames_out_of_order_end_the_connection_for_good(
    order: tuple[int, ...], read: int, together: bool
) -> None:
    """T-54: what came before is told; nothing after it, however right it is by itself."""
    client, frames = five_frames()
    chunks = [frames[at] for at in order]
    events: list[Event] = []
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        deliver(client, [b"".join(chunks)] if together else chunks, events)
    assert events == [NodeReceived(Node("iq", {"id": str(number)})) for number in range(read)]
    for frame in frames:
        with pytest.raises(LocalProtocolError, match="dead"):
            client.receive(frame)
    with pytest.raises(LocalProtocolError, match="dead"):
        client.send(STANZAS[0])


def test_frame_of_another_connection_ends_this_one() -> None:
    """T-54: keys belong to one connection, though client and server are the same."""
    _, frames = five_frames()
    other, _ = connected()
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        other.receive(frames[0])


def test_own_frame_sent_back_ends_the_connection() -> None:
    """T-54: each direction has a key of its own."""
    client, _ = connected()
    client.send(STANZAS[0])
    (frame,) = client.data_to_send()
    with pytest.raises(RemoteProtocolError, match="does not decrypt"):
        client.receive(frame)
