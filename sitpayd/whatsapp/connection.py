"""Connection: one WhatsApp connection without its socket; frames, Noise and codec put together.

Bytes in, events out; stanzas in, bytes out. It never waits, never looks at a clock and knows no
stanza's meaning: dialling and moving bytes is the owner's business, what to answer is decided
above. Both roles are the same class; they differ only in the handshake.

A frame that cannot be decrypted ends the connection, since the ciphers are out of step for good. A
stanza that cannot be decoded is skipped: `NodeRejected`.
"""

from __future__ import annotations

import hashlib
from typing import Final

from .codec import decode, encode
from .errors import HandshakeError, LocalProtocolError, RemoteProtocolError
from .events import Event, HandshakeCompleted, NodeReceived, NodeRejected
from .frames import (
    MAX_FRAME_LEN,
    FrameDecoder,
    PrologueDecoder,
    client_prologue,
    encode_frame,
)
from .keys import KeyPair
from .node import Node
from .noise import (
    WHATSAPP_ROOT_KEY,
    InitiatorHandshake,
    KnownServer,
    ResponderHandshake,
    Resumption,
    ServerKeys,
    TransportCipher,
)

_TAG_LEN: Final = 16
MAX_STANZA_LEN: Final = MAX_FRAME_LEN - _TAG_LEN
# A limit of our own, far above what keys, certificates and a ClientPayload need: until the
# handshake is complete nobody knows whose bytes are kept.
MAX_HANDSHAKE_LEN: Final = 2**16


class Connection:
    """One end of a connection; made by `initiator` or `responder`.

    Theory of operation: `receive` cuts the stream into frames. While there is a handshake they go
    to it; from the moment it ends they are ciphertexts. The switch happens between two frames, so a
    stanza may come in the same chunk as the message that completes the handshake.

    If a fatal frame comes in one chunk behind good ones, the events of the good ones are returned
    and the error is raised by the next `receive`; `has_failed` tells that it waits, and
    `receive(b"")` fetches it. Until then stanzas sent are dropped silently, as by any lost
    connection. Once the error was raised, `receive` and `send` raise LocalProtocolError.

    Attributes:
        pattern: of the handshake.
        server: on the initiator's side who is at the other end, once the handshake is complete.
    """

    __slots__ = (
        "_failure",
        "_frames",
        "_is_dead",
        "_outgoing",
        "_prologue",
        "_stage",
        "pattern",
        "server",
    )

    def __init__(
        self,
        handshake: InitiatorHandshake | ResponderHandshake,
        prologue: PrologueDecoder | None,
    ) -> None:
        """Only for `initiator` and `responder`."""
        # The handshake, then what came of it: never both.
        self._stage: InitiatorHandshake | ResponderHandshake | TransportCipher = handshake
        self.pattern = handshake.pattern
        self.server: KnownServer | None = None
        self._prologue = prologue
        self._frames = FrameDecoder()
        self._outgoing: list[bytes] = []
        self._failure: RemoteProtocolError | None = None
        self._is_dead = False

    @classmethod
    def initiator(
        cls,
        *,
        noise: KeyPair,
        payload: bytes,
        root_key: bytes = WHATSAPP_ROOT_KEY,
        now: float,
        routing_info: bytes | None = None,
        server: KnownServer | None = None,
        ephemeral: KeyPair | None = None,
    ) -> Connection:
        """Begin as a client; prologue and ClientHello wait in `data_to_send` at once.

        Args:
            noise: the device's long-lived Noise keys.
            payload: the serialised ClientPayload, for login or registration.
            root_key: 32 bytes, signs the server's certificates.
            now: UTC seconds, for the validity of certificates.
            routing_info: from `<edge_routing>` of an earlier connection.
            server: `server` of an earlier connection with this root key, to resume with.
            ephemeral: fresh for every connection; given only to reproduce a handshake.

        Raises:
            LocalProtocolError: If the payload is empty or routing_info too long.
        """
        handshake = InitiatorHandshake(
            noise=noise,
            payload=payload,
            root_key=root_key,
            now=now,
            server=server,
            ephemeral=ephemeral,
        )
        connection = cls(handshake, None)
        hello = encode_frame(handshake.client_hello)
        connection._outgoing.append(client_prologue(routing_info) + hello)
        return connection

    @classmethod
    def responder(
        cls,
        keys: ServerKeys,
        *,
        resumption: Resumption = Resumption.ACCEPT,
        ephemeral: KeyPair | None = None,
    ) -> Connection:
        """Begin as a server, which waits for the client's prologue.

        Args:
            ephemeral: fresh for every connection; given only to reproduce a handshake.
        """
        handshake = ResponderHandshake(keys, resumption=resumption, ephemeral=ephemeral)
        return cls(handshake, PrologueDecoder())

    @property
    def has_spoken(self) -> bool:
        """Whether the peer was told anything: a client's hello waits for a socket."""
        return not (isinstance(self._stage, InitiatorHandshake) and self._outgoing)

    @property
    def has_failed(self) -> bool:
        """Whether the next `receive` raises, whatever bytes it gets."""
        return self._failure is not None or self._is_dead

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the peer, cut anywhere; return what they complete, in order.

        Answers of the handshake come to lie in `data_to_send`.

        Raises:
            HandshakeError: If the handshake does not verify.
            ResumptionError: If it does not after we tried to resume.
            RemoteProtocolError: If the prologue is wrong or a frame does not decrypt.
            LocalProtocolError: If one of these was raised before.
        """
        self._check_alive()
        events: list[Event] = []
        if self._failure is None:
            try:
                self._receive_stream(data, events)
            except RemoteProtocolError as error:
                self._failure = error
        # Not `else`: with nothing to tell before it, a new failure is raised at once.
        if self._failure is not None and not events:
            # Not kept: its traceback refers to this connection, a cycle.
            failure, self._failure, self._is_dead = self._failure, None, True
            raise failure
        return events

    def _receive_stream(self, data: bytes, events: list[Event]) -> None:
        if self._prologue is not None:
            data = self._prologue.receive(data)
        for frame in self._frames.receive(data):
            if isinstance(self._stage, TransportCipher):
                events.append(self._receive_stanza(self._stage.decrypt(frame)))
            elif (completed := self._receive_handshake(self._stage, frame)) is not None:
                events.append(completed)
        if not isinstance(self._stage, TransportCipher):
            _check_handshake_len(self._frames.awaited_len)

    def _receive_stanza(self, stanza: bytes) -> NodeReceived | NodeRejected:
        try:
            return NodeReceived(decode(stanza))
        except RemoteProtocolError as error:
            return NodeRejected(len(stanza), hashlib.sha256(stanza).hexdigest(), str(error))

    def _receive_handshake(
        self, handshake: InitiatorHandshake | ResponderHandshake, message: bytes
    ) -> HandshakeCompleted | None:
        _check_handshake_len(len(message))
        answer = handshake.receive(message)
        if answer:
            self._outgoing.append(encode_frame(answer))
        if handshake.cipher is None:
            return None
        self.pattern = handshake.pattern
        if isinstance(handshake, InitiatorHandshake):
            self.server = handshake.server
        routing_info = self._prologue.routing_info if self._prologue else None
        # A process holds thousands of connections; none keeps what only the handshake needed.
        self._stage, self._prologue = handshake.cipher, None
        return HandshakeCompleted(handshake.client_payload, handshake.client_static, routing_info)

    def send(self, node: Node) -> None:
        """Queue a stanza.

        Raises:
            LocalProtocolError: If it cannot be encoded, or as `send_encoded`.
        """
        self.send_encoded(encode(node))

    def send_encoded(self, stanza: bytes) -> None:
        """Queue a stanza that was encoded before: flags byte and node, as `encode` returns it.

        Raises:
            LocalProtocolError: If the handshake is not complete, the connection is dead, or the
                stanza is empty or does not fit into a frame.
        """
        self._check_alive()
        # Before encrypting: a nonce used for a frame that is never sent puts the peer out of step.
        if not 0 < len(stanza) <= MAX_STANZA_LEN:
            raise LocalProtocolError(f"a stanza of {len(stanza)} bytes cannot be sent")
        if self._failure is not None:
            return
        if not isinstance(self._stage, TransportCipher):
            raise LocalProtocolError("the handshake is not complete")
        self._outgoing.append(encode_frame(self._stage.encrypt(stanza)))

    def data_to_send(self) -> list[bytes]:
        """Hand over what is to be written, and forget it; cannot raise.

        Returns:
            Items of one or more whole frames each, for one WebSocket message each, in order. All
            must be written or the connection given up: the nonces are used.
        """
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def _check_alive(self) -> None:
        if self._is_dead:
            raise LocalProtocolError("the connection is dead")


def _check_handshake_len(length: int) -> None:
    if length > MAX_HANDSHAKE_LEN:
        raise HandshakeError(f"a handshake message of {length} bytes is too long")
