"""What a Connection yields from the bytes it received."""

from __future__ import annotations

from dataclasses import dataclass

from .node import Node


@dataclass(frozen=True, slots=True)
class HandshakeCompleted:
    """The Noise handshake is done: stanzas can be sent.

    On the initiator's side all three are None.

    Attributes:
        client_payload: the client's login or registration payload, a serialised ClientPayload.
        client_static: the client's Noise public key: 32 bytes, X25519.
        routing_info: edge routing bytes of the client's prologue, if it sent any.
    """

    client_payload: bytes | None
    client_static: bytes | None
    routing_info: bytes | None


@dataclass(frozen=True, slots=True)
class NodeReceived:
    """A stanza came in."""

    node: Node


@dataclass(frozen=True, slots=True)
class NodeRejected:
    """A stanza did not decode and was skipped; the cipher is still in step, the connection goes on.

    Its bytes hold numbers and keys, so only their traces are told.

    Attributes:
        length: of the decrypted stanza, in bytes.
        digest: SHA-256 of the decrypted stanza, 64 hex digits.
        error: what was wrong.
    """

    length: int
    digest: str
    error: str


Event = HandshakeCompleted | NodeReceived | NodeRejected
