"""The handshake and the transport, both roles, with a hostile peer and with one who has the keys.

An input is a scene and what is played in it. In the first three somebody in the middle changes a
message; in `FORGED_SERVER` and `FORGED_CLIENT` the peer itself is hostile and encrypts what it
likes; in the others a whole stream is changed, frame by frame or anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from random import Random
from typing import Final

from google.protobuf.message import DecodeError

from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.connection import MAX_HANDSHAKE_LEN, Connection
from sitpayd.whatsapp.errors import HandshakeError, LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.events import Event, HandshakeCompleted, NodeReceived
from sitpayd.whatsapp.frames import client_prologue, encode_frame
from sitpayd.whatsapp.jid import pn
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import (
    InitiatorHandshake,
    ResponderHandshake,
    ServerKeys,
    TransportCipher,
)
from sitpayd.whatsapp.schema.whatsapp_pb2 import HandshakeMessage
from tests.fuzz import certificates
from tests.fuzz.mutators import change
from tests.fuzz.people import KEYS, NOW, ROOT, steady
from tests.fuzz.protos import BYTES, message_of, rewired
from tests.fuzz.target import Outcome, Target, judged
from tests.fuzz.targets.frames import frames_in

_CLIENT: Final = KEYS.noise
_PAYLOAD: Final = b"client payload"
_STANZAS: Final = tuple(
    Node("iq", {"id": str(number), "to": pn(""), "type": "get"}, (Node("ping"),))
    for number in range(6)
)
# Points whose product with any private key is zero, and one that is no canonical number.
_WEAK: Final = (
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    b"\xff" * 32,
)

with steady("noise"):
    _CLIENT_EPHEMERAL: Final = KeyPair.generate()
    _SERVER_EPHEMERAL: Final = KeyPair.generate()
_SERVER_KEYS: Final = ServerKeys(certificates.STATIC, certificates.good_chain())


class Scene(IntEnum):
    """What is played."""

    SERVER_HELLO = 0
    CLIENT_HELLO = 1
    CLIENT_FINISH = 2
    FORGED_SERVER = 3
    FORGED_CLIENT = 4
    TO_CLIENT = 5
    TO_SERVER = 6
    ESTABLISHED_CLIENT = 7
    ESTABLISHED_SERVER = 8


def _initiator() -> InitiatorHandshake:
    return InitiatorHandshake(
        noise=_CLIENT,
        payload=_PAYLOAD,
        root_key=ROOT.public_key,
        now=NOW,
        ephemeral=_CLIENT_EPHEMERAL,
    )


def _responder() -> ResponderHandshake:
    return ResponderHandshake(_SERVER_KEYS, ephemeral=_SERVER_EPHEMERAL)


def _client() -> Connection:
    return Connection.initiator(
        noise=_CLIENT,
        payload=_PAYLOAD,
        root_key=ROOT.public_key,
        now=NOW,
        ephemeral=_CLIENT_EPHEMERAL,
    )


def _server() -> Connection:
    return Connection.responder(_SERVER_KEYS, ephemeral=_SERVER_EPHEMERAL)


class _ForgingServer(ResponderHandshake):
    """Encrypts other things than its static key and its certificates."""

    __slots__ = ("plaintexts",)

    def __init__(self, plaintexts: Iterator[bytes]) -> None:
        super().__init__(_SERVER_KEYS, ephemeral=_SERVER_EPHEMERAL)
        self.plaintexts = plaintexts

    def _encrypt(self, plaintext: bytes) -> bytes:
        return super()._encrypt(next(self.plaintexts))


class _ForgingClient(InitiatorHandshake):
    """Encrypts other things than its static key and its payload."""

    __slots__ = ("plaintexts",)

    def __init__(self, plaintexts: Iterator[bytes]) -> None:
        super().__init__(
            noise=_CLIENT,
            payload=_PAYLOAD,
            root_key=ROOT.public_key,
            now=NOW,
            ephemeral=_CLIENT_EPHEMERAL,
        )
        self.plaintexts = plaintexts

    def _encrypt(self, plaintext: bytes) -> bytes:
        return super()._encrypt(next(self.plaintexts))


class _Established(Connection):
    """A connection behind its handshake, without the cost of one."""

    __slots__ = ()

    def __init__(self, cipher: TransportCipher) -> None:
        super().__init__(_initiator(), None)
        self._stage = cipher


def _must(message: bytes | None) -> bytes:
    assert message is not None
    return message


class Noise(Target):
    """`noise` and `connection`."""

    name = "noise"
    summary = "no changed byte of a handshake or a stream goes through, and none is skipped"

    def __init__(self) -> None:
        client, server = _initiator(), _responder()
        self._client_hello = client.client_hello
        self._server_hello = _must(server.receive(client.client_hello))
        self._client_finish = client.receive(self._server_hello)
        server.receive(self._client_finish)
        self._to_client = self._frames_of(_must_cipher(server))
        self._to_server = self._frames_of(_must_cipher(client))
        to_server, to_client = client._split()
        self._keys = {
            Scene.ESTABLISHED_CLIENT: (to_server, to_client),
            Scene.ESTABLISHED_SERVER: (to_client, to_server),
        }

    def _frames_of(self, cipher: TransportCipher) -> list[bytes]:
        return [cipher.encrypt(encode(node)) for node in _STANZAS]

    def seeds(self) -> Sequence[bytes]:
        static = certificates.STATIC.public_key
        streams = {
            Scene.SERVER_HELLO: self._server_hello,
            Scene.CLIENT_HELLO: self._client_hello,
            Scene.CLIENT_FINISH: self._client_finish,
            Scene.FORGED_SERVER: bytes((len(static),)) + static + certificates.good_chain(),
            Scene.FORGED_CLIENT: bytes((32,)) + _CLIENT.public_key + _PAYLOAD,
            Scene.TO_CLIENT: _stream([self._server_hello, *self._to_client]),
            Scene.TO_SERVER: client_prologue(b"edge")
            + _stream([self._client_hello, self._client_finish, *self._to_server]),
            Scene.ESTABLISHED_CLIENT: _stream(self._to_client),
            Scene.ESTABLISHED_SERVER: _stream(self._to_server),
        }
        forged = bytes((Scene.FORGED_SERVER, len(static))) + static
        return [
            *(bytes((scene,)) + stream for scene, stream in streams.items()),
            *(forged + bad for bad in certificates.bad_chains()),
        ]

    def large(self) -> Iterator[bytes]:
        for scene in (Scene.SERVER_HELLO, Scene.CLIENT_HELLO, Scene.CLIENT_FINISH):
            yield bytes((scene,)) + message_of([(2, BYTES, message_of([(1, BYTES, bytes(2**20))]))])
            yield bytes((scene,)) + message_of([(50, BYTES, bytes(2**20))])
        good = certificates.good_chain()
        static = certificates.STATIC.public_key
        for more in (bytes(2**20), message_of([(9, BYTES, bytes(2**20))])):
            yield bytes((Scene.FORGED_SERVER, len(static))) + static + good + more
        yield bytes((Scene.FORGED_CLIENT, 32)) + _CLIENT.public_key + bytes(2**20)
        for scene in (Scene.TO_CLIENT, Scene.TO_SERVER, Scene.ESTABLISHED_CLIENT):
            yield bytes((scene,)) + b"\xff\xff\xff" + bytes(2**20)

    def mutate(self, rng: Random, data: bytes, other: bytes) -> bytes:
        scene, body = data[:1], data[1:]
        same = other[1:] if other[:1] == scene else body
        match scene[0] if scene else 0:
            case Scene.SERVER_HELLO | Scene.CLIENT_HELLO | Scene.CLIENT_FINISH:
                if rng.random() < 0.1:
                    key = _WEAK[int(rng.random() * len(_WEAK))]
                    hello = HandshakeMessage.ServerHello(ephemeral=key, static=bytes(48))
                    greeting = HandshakeMessage.ClientHello(ephemeral=key)
                    made = HandshakeMessage(clientHello=greeting, serverHello=hello)
                    return scene + made.SerializeToString()
                how = rewired if rng.random() < 0.5 else change
                return scene + how(rng, body, other[1:])
            case Scene.FORGED_SERVER:
                length = body[0] if body else 0
                static, chain = body[1 : 1 + length], body[1 + length :]
                if rng.random() < 0.2:
                    static = _WEAK[int(rng.random() * len(_WEAK))]
                elif rng.random() < 0.6:
                    chain = certificates.signed_anew(rng, chain)
                else:
                    chain = rewired(rng, chain, other[1:])
                return scene + bytes((len(static) % 256,)) + static + chain
            case Scene.FORGED_CLIENT:
                return scene + change(rng, body, other[1:])
            case _:
                return scene + _replayed(rng, body, same)

    def check(self, data: bytes) -> Sequence[Outcome]:
        scene, body = data[0] % len(Scene) if data else 0, data[1:]
        match scene:
            case Scene.SERVER_HELLO:
                return self._hear_hello(body)
            case Scene.CLIENT_HELLO:
                return self._greet(body)
            case Scene.CLIENT_FINISH:
                return self._finish(body)
            case Scene.FORGED_SERVER:
                return self._forged_server(body)
            case Scene.FORGED_CLIENT:
                return self._forged_client(body)
            case Scene.TO_CLIENT:
                genuine = [self._server_hello, *self._to_client]
                return _streamed(_client(), body, genuine, handshake=1)
            case Scene.TO_SERVER:
                genuine = [self._client_hello, self._client_finish, *self._to_server]
                return _streamed(_server(), body, genuine, handshake=2, prologue=True)
            case _:
                genuine = self._to_client if scene == Scene.ESTABLISHED_CLIENT else self._to_server
                connection = _Established(TransportCipher(*self._keys[Scene(scene)]))
                return _streamed(connection, body, genuine, handshake=0)

    def _hear_hello(self, message: bytes) -> Sequence[Outcome]:
        client = _initiator()
        try:
            client.receive(message)
        except HandshakeError as error:
            assert client.cipher is None, "a cipher of a handshake that failed"
            return (judged(error),)
        assert _says_the_same(message, self._server_hello), "another ServerHello is accepted"
        assert client.cipher is not None
        return ("complete",)

    def _greet(self, message: bytes) -> Sequence[Outcome]:
        server = _responder()
        try:
            assert server.receive(message) is not None
        except HandshakeError as error:
            return (judged(error),)
        _is_not_complete(server)
        return ("greeted",)

    def _finish(self, message: bytes) -> Sequence[Outcome]:
        server = _responder()
        server.receive(self._client_hello)
        try:
            server.receive(message)
        except HandshakeError as error:
            _is_not_complete(server)
            return (judged(error),)
        assert _says_the_same(message, self._client_finish), "another ClientFinish is accepted"
        assert server.client_static == _CLIENT.public_key
        return ("complete",)

    def _forged_server(self, body: bytes) -> Sequence[Outcome]:
        length = body[0] if body else 0
        static, chain = body[1 : 1 + length], body[1 + length :]
        client, server = _initiator(), _ForgingServer(iter((static, chain)))
        hello = _must(server.receive(client.client_hello))
        # A static key that the server does not own never gets as far as its certificates.
        is_right = static == certificates.STATIC.public_key and certificates.is_good(
            chain, static, ROOT.public_key, NOW
        )
        try:
            client.receive(hello)
        except HandshakeError as error:
            assert not is_right, "a good server is refused"
            assert client.cipher is None, "a cipher of a handshake that failed"
            return (judged(error),)
        assert is_right, "a server without a good certificate is accepted"
        return ("accepted",)

    def _forged_client(self, body: bytes) -> Sequence[Outcome]:
        length = body[0] if body else 0
        static, payload = body[1 : 1 + length], body[1 + length :]
        client, server = _ForgingClient(iter((static, payload))), _responder()
        finish = client.receive(_must(server.receive(client.client_hello)))
        try:
            server.receive(finish)
        except HandshakeError as error:
            _is_not_complete(server)
            return (judged(error),)
        assert (server.client_static, server.client_payload) == (static, payload)
        # X25519 does not look at the highest bit (RFC 7748, section 5).
        assert static[:31] == _CLIENT.public_key[:31]
        assert static[31] & 0x7F == _CLIENT.public_key[31]
        assert payload
        return ("accepted",)


def _is_not_complete(server: ResponderHandshake) -> None:
    known = (server.cipher, server.client_payload, server.client_static)
    assert known == (None, None, None), "something is left of a handshake that failed"


def _must_cipher(handshake: InitiatorHandshake | ResponderHandshake) -> TransportCipher:
    assert handshake.cipher is not None
    return handshake.cipher


def _stream(frames: Sequence[bytes]) -> bytes:
    return b"".join(map(encode_frame, frames))


def _says_the_same(message: bytes, genuine: bytes) -> bool:
    """Whether two handshake messages have the same fields, as far as they count."""
    try:
        got = HandshakeMessage.FromString(message)
    except DecodeError:
        return False
    want = HandshakeMessage.FromString(genuine)
    if want.HasField("serverHello"):
        got_hello, want_hello = got.serverHello, want.serverHello
        return (got_hello.ephemeral, got_hello.static, got_hello.payload) == (
            want_hello.ephemeral,
            want_hello.static,
            want_hello.payload,
        )
    if want.HasField("clientHello"):
        return got.clientHello.ephemeral == want.clientHello.ephemeral
    got_finish, want_finish = got.clientFinish, want.clientFinish
    return (got_finish.static, got_finish.payload) == (want_finish.static, want_finish.payload)


def _replayed(rng: Random, stream: bytes, other: bytes) -> bytes:
    """Drop, repeat, reorder, change or exchange frames; or change the stream anywhere."""
    if rng.random() < 0.3:
        return change(rng, stream, other)
    prologue = b""
    if stream.startswith((b"WA", b"ED")):
        at = stream.find(b"WA\x06\x03") + 4
        prologue, stream = stream[:at], stream[at:]
    frames, donors = frames_in(stream), frames_in(other)
    if not frames:
        return prologue + change(rng, stream, other)
    at = int(rng.random() * len(frames))
    choice = rng.random()
    if choice < 0.2:
        del frames[at]
    elif choice < 0.4:
        frames.insert(int(rng.random() * (len(frames) + 1)), frames[at])
    elif choice < 0.6:
        to = int(rng.random() * len(frames))
        frames[at], frames[to] = frames[to], frames[at]
    elif choice < 0.9 or not donors:
        frames[at] = change(rng, frames[at], frames[at], most=2)
    else:
        frames[at] = donors[int(rng.random() * len(donors))]
    return prologue + _stream(frames)


def _streamed(
    connection: Connection,
    stream: bytes,
    genuine: Sequence[bytes],
    *,
    handshake: int,
    prologue: bool = False,
) -> Sequence[Outcome]:
    """Hand a stream to a connection and hold what comes out against what may.

    Args:
        genuine: the frames that the peer sent, in order.
        handshake: how many of them are of the handshake.
    """
    events: list[Event] = []
    failed: Outcome = None
    try:
        events = connection.receive(stream)
        # What came before a bad frame is told first; the failure waits for the next call.
        connection.receive(b"")
    except RemoteProtocolError as error:
        failed = judged(error)
        _is_dead(connection)
    if prologue:
        is_right, stream = _behind_prologue(stream)
        if not is_right:
            assert not events
            return (failed,)
    frames = frames_in(stream)
    rest = stream[sum(3 + len(frame) for frame in frames) :]
    is_too_long = len(rest) > 2 and int.from_bytes(rest[:3], "big") > MAX_HANDSHAKE_LEN
    if prologue and frames and not _says_the_same(frames[0], genuine[0]):
        # Anybody may greet a server; only who owns the key goes on.
        assert not events
        is_waiting = len(frames) == 1 and not is_too_long
        assert failed is not None or is_waiting, "a stranger goes on"
        return (failed,)
    good = 0
    while good < min(len(frames), len(genuine)):
        frame, wanted = frames[good], genuine[good]
        if frame != wanted and not (good < handshake and _says_the_same(frame, wanted)):
            break
        good += 1
    nodes = [event.node for event in events if isinstance(event, NodeReceived)]
    assert nodes == list(_STANZAS[: max(good - handshake, 0)]), "other stanzas than were sent"
    completed = sum(isinstance(event, HandshakeCompleted) for event in events)
    assert completed == (handshake > 0 and good >= handshake)
    is_good = good == len(frames) and not (good < handshake and is_too_long)
    assert (failed is None) == is_good, "a bad frame is skipped"
    return (failed, good)


def _is_dead(connection: Connection) -> None:
    for attempt in (lambda: connection.receive(b""), lambda: connection.send(_STANZAS[0])):
        try:
            attempt()
        except LocalProtocolError:
            continue
        raise AssertionError("a failed connection goes on")


def _behind_prologue(stream: bytes) -> tuple[bool, bytes]:
    """Whether a stream has a whole prologue, and what follows it."""
    if stream.startswith(b"ED\x00\x01") and len(stream) >= 7:
        stop = 7 + int.from_bytes(stream[4:7], "big")
        if len(stream) < stop:
            return False, b""
        stream = stream[stop:]
    return stream.startswith(b"WA\x06\x03"), stream[4:]
