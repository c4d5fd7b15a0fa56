"""Sessions: everything shared with one device of one user, as an immutable value.

A `SessionRecord` holds one current state and the archived ones. There are several because both
sides may begin at once, and because messages under an older state may still be on their way: what
an archived state decrypts makes it current again, so that two crossing beginnings converge. All
states of a record belong to one remote identity; a beginning under another one starts afresh.

Every function takes a record and returns a new one, or raises and has changed nothing. The caller
saves the new record before a body leaves, and together with a received plaintext. Which identity to
trust, which prekeys exist and how to answer a failure is decided by the caller.

Source: Signal, "The X3DH Key Agreement Protocol"; libsignal-node session_builder.js,
session_cipher.js, session_record.js.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from google.protobuf.message import DecodeError

from ..crypto import KEY_LEN, verify
from ..errors import (
    BadMacError,
    DecryptError,
    LocalProtocolError,
    RemoteProtocolError,
    UnknownPreKeyError,
)
from ..keys import KEY_TYPE, KeyPair
from ..schema import session_pb2
from ..schema.whatsapp_pb2 import PreKeySignalMessage
from .ratchet import (
    SKIPPED_LEN,
    VERSION,
    Message,
    Ratchet,
    ReceivingChain,
    SendingChain,
    parse_key,
    parse_message,
)
from .x3dh import first_keys, initiator_secret, responder_secret

# As in libsignal; the oldest is dropped.
MAX_ARCHIVED: Final = 40


@dataclass(frozen=True, slots=True)
class PreKeyBundle:
    """What the server hands out for beginning a session with a device.

    Attributes:
        identity: 32 bytes.
        signed_prekey: 32 bytes.
        signature: 64 bytes, XEdDSA of the identity over 05 || signed_prekey.
        prekey_id: None with `prekey` None if the device has run out of one-time prekeys.
        prekey: 32 bytes.
    """

    registration_id: int
    identity: bytes
    signed_prekey_id: int
    signed_prekey: bytes
    signature: bytes
    prekey_id: int | None
    prekey: bytes | None


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


@dataclass(frozen=True, slots=True)
class Encrypted:
    """An encrypted message.

    Attributes:
        record: to be saved before the body leaves; otherwise a message key is used twice.
        kind: type of the `<enc>` node.
    """

    record: SessionRecord
    kind: Literal["pkmsg", "msg"]
    body: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Decrypted:
    """A decrypted message; the record is to be saved together with what was read."""

    record: SessionRecord
    plaintext: bytes


@dataclass(frozen=True, slots=True)
class PreKeyMessage:
    """A parsed "pkmsg", not yet verified.

    Attributes:
        prekey_id: our one-time prekey, None if the sender got none.
        base_key: 32 bytes, the sender's, fresh for this session.
        identity: 32 bytes, the sender's.
        registration_id: the sender's.
        message: a complete "msg".
    """

    prekey_id: int | None
    signed_prekey_id: int
    base_key: bytes
    identity: bytes
    registration_id: int
    message: bytes


def start(
    bundle: PreKeyBundle,
    identity: KeyPair,
    *,
    previous: SessionRecord | None = None,
    generate: Callable[[], KeyPair] = KeyPair.generate,
) -> SessionRecord:
    """Begin a session with a device from its bundle.

    Args:
        identity: ours.
        previous: what there is with this device; its states are archived, or dropped if they belong
            to another identity.
        generate: makes the base pair, then the first ratchet pair.

    Raises:
        RemoteProtocolError: If the signed prekey's signature does not verify or a key is unusable.
    """
    if not verify(bundle.identity, KEY_TYPE + bundle.signed_prekey, bundle.signature):
        raise RemoteProtocolError("bad signature of a signed prekey")
    base = generate()
    root_key, _ = first_keys(
        initiator_secret(identity, base, bundle.identity, bundle.signed_prekey, bundle.prekey)
    )
    state = State(
        remote_identity=bundle.identity,
        remote_registration_id=bundle.registration_id,
        base_key=base.public_key,
        pending=Pending(bundle.prekey_id, bundle.signed_prekey_id),
        ratchet=Ratchet.initiate(root_key, generate(), bundle.signed_prekey),
    )
    return _install(previous, state)


def encrypt(
    record: SessionRecord, identity: KeyPair, registration_id: int, plaintext: bytes
) -> Encrypted:
    """Encrypt with the current state.

    Args:
        identity: ours.
        registration_id: ours.
        plaintext: already padded.
    """
    state = record.current
    ratchet, body = state.ratchet.encrypt(identity.public_key, state.remote_identity, plaintext)
    advanced = SessionRecord(
        State(
            state.remote_identity,
            state.remote_registration_id,
            state.base_key,
            state.pending,
            ratchet,
        ),
        record.archived,
    )
    if state.pending is None:
        return Encrypted(advanced, "msg", body)
    fields = PreKeySignalMessage(
        preKeyId=state.pending.prekey_id,
        baseKey=KEY_TYPE + state.base_key,
        identityKey=KEY_TYPE + identity.public_key,
        message=body,
        registrationId=registration_id,
        signedPreKeyId=state.pending.signed_prekey_id,
    )
    return Encrypted(advanced, "pkmsg", VERSION + fields.SerializeToString())


def parse_prekey_message(body: bytes) -> PreKeyMessage:
    """Parse a "pkmsg" body.

    Raises:
        DecryptError: If it is malformed or of another version.
    """
    if not body.startswith(VERSION):
        raise DecryptError("not a Signal prekey message of version 3")
    fields = PreKeySignalMessage()
    try:
        fields.ParseFromString(body[1:])
    except DecodeError as error:
        raise DecryptError("malformed Signal prekey message") from error
    if not fields.HasField("signedPreKeyId") or not fields.HasField("registrationId"):
        raise DecryptError("incomplete Signal prekey message")
    return PreKeyMessage(
        prekey_id=fields.preKeyId if fields.HasField("preKeyId") else None,
        signed_prekey_id=fields.signedPreKeyId,
        base_key=parse_key(fields.baseKey),
        identity=parse_key(fields.identityKey),
        registration_id=fields.registrationId,
        message=fields.message,
    )


def knows_base_key(record: SessionRecord, base_key: bytes) -> bool:
    """Tell whether a state with this base key exists: its prekeys are no longer needed then."""
    return _state_with_base_key(record, base_key) is not None


def decrypt_prekey_message(
    record: SessionRecord | None,
    identity: KeyPair,
    signed_prekey: KeyPair | None,
    prekey: KeyPair | None,
    message: PreKeyMessage,
    *,
    generate: Callable[[], KeyPair] = KeyPair.generate,
) -> Decrypted:
    """Decrypt a "pkmsg", with a new state unless one with its base key exists.

    Args:
        record: what there is with the sender, None if nothing. States of another identity than the
            message's are dropped by success; whether to trust the new one is the caller's choice.
        identity: ours.
        signed_prekey: ours by `message.signed_prekey_id`; None if unknown, or if the base key is
            known.
        prekey: ours by `message.prekey_id`, to be deleted with the save; None likewise.

    Raises:
        UnknownPreKeyError: If a prekey is needed and missing.
        DuplicateMessageError: If the message was decrypted before.
        FutureMessageError: If its counter lies too far ahead.
        BadMacError: If it does not verify.
        DecryptError: If it is malformed.
    """
    inner = parse_message(message.message)
    known = record and _state_with_base_key(record, message.base_key)
    if record is not None and known:
        state, rest = known
        # The MAC covers the identity the state was made with, not the one this message claims.
        if state.remote_identity != message.identity:
            raise BadMacError("a known base key under another identity")
        state, plaintext = _decrypt_with(state, identity, inner, generate)
        return Decrypted(_promote(record, state, rest), plaintext)

    if signed_prekey is None or (message.prekey_id is not None and prekey is None):
        raise UnknownPreKeyError("made for a prekey we do not hold")
    try:
        root_key, chain_key = first_keys(
            responder_secret(
                identity,
                signed_prekey,
                prekey if message.prekey_id is not None else None,
                message.identity,
                message.base_key,
            )
        )
    except RemoteProtocolError as error:
        raise DecryptError("unusable key in a Signal prekey message") from error
    state = State(
        remote_identity=message.identity,
        remote_registration_id=message.registration_id,
        base_key=message.base_key,
        pending=None,
        ratchet=Ratchet.respond(root_key, chain_key, signed_prekey),
    )
    state, plaintext = _decrypt_with(state, identity, inner, generate)
    return Decrypted(_install(record, state), plaintext)


def decrypt(
    record: SessionRecord,
    identity: KeyPair,
    body: bytes,
    *,
    generate: Callable[[], KeyPair] = KeyPair.generate,
) -> Decrypted:
    """Decrypt a "msg" with the current state or an archived one, which becomes current.

    Args:
        identity: ours.
        generate: makes our next ratchet pair if the message begins a new chain.

    Raises:
        DuplicateMessageError: If the message was decrypted before.
        FutureMessageError: If its counter lies too far ahead.
        BadMacError: If no state verifies it.
        DecryptError: If it is malformed.
    """
    message = parse_message(body)
    # A ratchet key belongs to one state: whichever holds it decides alone, and a repetition is told
    # from a wrong MAC.
    if record.current.ratchet.knows(message.ratchet_key):
        state, plaintext = _decrypt_with(record.current, identity, message, generate)
        return Decrypted(SessionRecord(state, record.archived), plaintext)
    for state, rest in _archived_containing(record, message.ratchet_key):
        if state.ratchet.knows(message.ratchet_key):
            state, plaintext = _decrypt_with(state, identity, message, generate)
            return Decrypted(_promote(record, state, rest), plaintext)

    try:
        state, plaintext = _decrypt_with(record.current, identity, message, generate)
        return Decrypted(SessionRecord(state, record.archived), plaintext)
    except BadMacError:
        for state, rest in _archived_containing(record, b""):
            try:
                state, plaintext = _decrypt_with(state, identity, message, generate)
            except BadMacError:
                continue
            return Decrypted(_promote(record, state, rest), plaintext)
        raise


def _decrypt_with(
    state: State, identity: KeyPair, message: Message, generate: Callable[[], KeyPair]
) -> tuple[State, bytes]:
    """Decrypt with this state; having received, it is pending no more."""
    try:
        ratchet, plaintext = state.ratchet.decrypt(
            state.remote_identity, identity.public_key, message, generate
        )
    except DecryptError:
        raise
    except RemoteProtocolError as error:
        raise DecryptError("unusable ratchet key") from error
    moved = State(
        state.remote_identity, state.remote_registration_id, state.base_key, None, ratchet
    )
    return moved, plaintext


def _archived_containing(
    record: SessionRecord, key: bytes
) -> Iterator[tuple[State, tuple[bytes, ...]]]:
    """Archived states whose bytes hold the key, newest first, each with the others' bytes.

    Searching the bytes spares parsing states that cannot be meant.
    """
    for index, data in enumerate(record.archived):
        if key in data:
            yield State.from_bytes(data), record.archived[:index] + record.archived[index + 1 :]


def _state_with_base_key(
    record: SessionRecord, base_key: bytes
) -> tuple[State, tuple[bytes, ...] | None] | None:
    """The state of this base key; with it the other archived ones, or None if it is current."""
    if record.current.base_key == base_key:
        return record.current, None
    for state, rest in _archived_containing(record, base_key):
        if state.base_key == base_key:
            return state, rest
    return None


def _promote(record: SessionRecord, state: State, rest: tuple[bytes, ...] | None) -> SessionRecord:
    """Put in a moved state: `rest` are the archived ones without it, None if it was current."""
    if rest is None:
        return SessionRecord(state, record.archived)
    return SessionRecord(state, (record.current.to_bytes(), *rest))


def _install(record: SessionRecord | None, state: State) -> SessionRecord:
    """Make a new state current; of the previous ones keep those of the same identity."""
    if record is None or record.remote_identity != state.remote_identity:
        return SessionRecord(state)
    archived = (record.current.to_bytes(), *record.archived)
    return SessionRecord(state, archived[:MAX_ARCHIVED])


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
