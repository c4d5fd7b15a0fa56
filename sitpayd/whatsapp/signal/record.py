"""What is kept about the sessions with one device, and how it stands in bytes.

Values and their storage form only; how they come about and move is session.py and ratchet.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from google.protobuf.message import DecodeError

from ..crypto import KEY_LEN
from ..errors import LocalProtocolError
from ..keys import KeyPair
from ..schema import session_pb2
from .ratchet import SKIPPED_LEN, Ratchet, ReceivingChain, SendingChain


@dataclass(frozen=True, slots=True)
class Pending:
    """The prekeys our session was begun with; sent along until the peer's first answer."""

    prekey_id: int | None
    signed_prekey_id: int


@dataclass(frozen=True, slots=True, repr=False)
class State:
    """One agreed session.

    Attributes:
        base_key: 32 bytes, the initiator's; names the state.
        pending: None unless we began it and nothing was received yet.
    """

    remote_identity: bytes
    remote_registration_id: int
    base_key: bytes
    pending: Pending | None
    ratchet: Ratchet

    def to_bytes(self) -> bytes:
        """Serialise."""
        return _dump(self).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """Parse bytes of our own.

        Raises:
            LocalProtocolError: If they are damaged.
        """
        stored = session_pb2.State()
        try:
            stored.ParseFromString(data)
        except DecodeError as error:
            raise LocalProtocolError("damaged session state") from error
        return _load(stored)


@dataclass(frozen=True, slots=True, repr=False)
class SessionRecord:
    """All states shared with one device.

    Attributes:
        archived: serialised states, newest first, at most `MAX_ARCHIVED`. They stay bytes until one
            is needed, since each message loads and stores the whole record.
    """

    current: State
    archived: tuple[bytes, ...] = ()

    @property
    def remote_identity(self) -> bytes:
        """The peer's identity, 32 bytes."""
        return self.current.remote_identity

    @property
    def remote_registration_id(self) -> int:
        """The peer's registration id when the current state began."""
        return self.current.remote_registration_id

    def to_bytes(self) -> bytes:
        """Serialise. Holds private keys: seal it before it is stored."""
        return session_pb2.Record(
            current=_dump(self.current), archived=self.archived
        ).SerializeToString()

    @classmethod
    def from_bytes(cls, data: bytes) -> SessionRecord:
        """Parse what `to_bytes` made.

        Raises:
            LocalProtocolError: If the bytes are damaged.
        """
        stored = session_pb2.Record()
        try:
            stored.ParseFromString(data)
        except DecodeError as error:
            raise LocalProtocolError("damaged session record") from error
        return cls(_load(stored.current), tuple(stored.archived))


def _dump(state: State) -> session_pb2.State:
    ratchet = state.ratchet
    sending = ratchet.sending
    stored = session_pb2.State(
        remoteIdentity=state.remote_identity,
        rootKey=ratchet.root_key,
        sendingPrivate=sending.pair.private_key,
        sendingPublic=sending.pair.public_key,
        sendingChainKey=sending.chain_key,
        sendingCounter=sending.counter,
        previousCounter=sending.previous_counter,
        baseKey=state.base_key,
        remoteRegistrationId=state.remote_registration_id,
    )
    for chain in ratchet.receiving:
        stored.receiving.add(
            ratchetKey=chain.ratchet_key,
            chainKey=chain.chain_key,
            counter=chain.counter,
            skipped=chain.skipped,
        )
    if state.pending is not None:
        stored.pending.signedPreKeyId = state.pending.signed_prekey_id
        if state.pending.prekey_id is not None:
            stored.pending.preKeyId = state.pending.prekey_id
    return stored


def _load(stored: session_pb2.State) -> State:
    receiving = tuple(
        ReceivingChain(chain.ratchetKey, chain.chainKey, chain.counter, chain.skipped)
        for chain in stored.receiving
    )
    sending = SendingChain(
        KeyPair(stored.sendingPrivate, stored.sendingPublic),
        stored.sendingChainKey,
        stored.sendingCounter,
        stored.previousCounter,
    )
    state = State(
        stored.remoteIdentity,
        stored.remoteRegistrationId,
        stored.baseKey,
        None,
        Ratchet(stored.rootKey, sending, receiving),
    )
    if not _is_whole(state):
        raise LocalProtocolError("damaged session state")
    if not stored.HasField("pending"):
        return state
    pending = stored.pending
    prekey_id = pending.preKeyId if pending.HasField("preKeyId") else None
    return replace(state, pending=Pending(prekey_id, pending.signedPreKeyId))


def _is_whole(state: State) -> bool:
    """Tell whether every field has its length: a truncated key would break the session silently."""
    sending = state.ratchet.sending
    return (
        len(state.remote_identity)
        == len(state.base_key)
        == len(state.ratchet.root_key)
        == len(sending.pair.private_key)
        == len(sending.pair.public_key)
        == len(sending.chain_key)
        == KEY_LEN
    ) and all(
        len(chain.ratchet_key) == len(chain.chain_key) == KEY_LEN
        and len(chain.skipped) % SKIPPED_LEN == 0
        for chain in state.ratchet.receiving
    )
