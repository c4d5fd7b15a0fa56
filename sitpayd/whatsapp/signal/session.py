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
from dataclasses import dataclass
from typing import Final, Literal

from google.protobuf.message import DecodeError

from ..crypto import verify
from ..errors import (
    BadMacError,
    DecryptError,
    InvalidKeyError,
    RemoteProtocolError,
    UnknownPreKeyError,
)
from ..keys import KEY_TYPE, KeyPair
from ..schema.whatsapp_pb2 import PreKeySignalMessage
from .ratchet import VERSION, Message, Ratchet, parse_key, parse_message
from .record import Pending, State

# Under its own name: callers know this module alone.
from .record import SessionRecord as SessionRecord
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


def is_begun_from(record: SessionRecord, bundle: PreKeyBundle) -> bool:
    """Whether the current state was begun with this one-time prekey, and nothing was heard since.

    Such a prekey serves once: a second session from it is one that its owner cannot read.
    """
    pending, prekey_id = record.current.pending, bundle.prekey_id
    is_same_device = record.remote_identity == bundle.identity
    return (
        is_same_device
        and prekey_id is not None
        and pending == Pending(prekey_id, bundle.signed_prekey_id)
    )


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
    return _find_base_key(record, base_key) is not None


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
        InvalidKeyError: If one of its keys is unusable.
        DecryptError: If it is malformed.
    """
    inner = parse_message(message.message)
    known = _find_base_key(record, message.base_key) if record is not None else None
    if known is not None:
        state, archived = known
        # The MAC covers the identity the state was made with, not the one this message claims.
        if state.remote_identity != message.identity:
            raise BadMacError("a known base key under another identity")
        state, plaintext = _decrypt_with(state, identity, inner, generate)
        return Decrypted(SessionRecord(state, archived), plaintext)

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
        raise InvalidKeyError("unusable key in a Signal prekey message") from error
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
        InvalidKeyError: If its ratchet key is unusable.
        DecryptError: If it is malformed.
    """
    message = parse_message(body)
    # A ratchet key belongs to one state: whichever holds it decides alone, and a repetition is told
    # from a wrong MAC.
    if record.current.ratchet.knows(message.ratchet_key):
        state, plaintext = _decrypt_with(record.current, identity, message, generate)
        return Decrypted(SessionRecord(state, record.archived), plaintext)
    for state, archived in _archived_containing(record, message.ratchet_key):
        if state.ratchet.knows(message.ratchet_key):
            state, plaintext = _decrypt_with(state, identity, message, generate)
            return Decrypted(SessionRecord(state, archived), plaintext)

    try:
        state, plaintext = _decrypt_with(record.current, identity, message, generate)
        return Decrypted(SessionRecord(state, record.archived), plaintext)
    except BadMacError:
        for state, archived in _archived_containing(record, b""):
            try:
                state, plaintext = _decrypt_with(state, identity, message, generate)
            except BadMacError:
                continue
            return Decrypted(SessionRecord(state, archived), plaintext)
        raise


def merge(recent: SessionRecord, other: SessionRecord) -> SessionRecord:
    """Make one record of the two that stood under two names of one device: nothing is lost.

    Args:
        recent: used last; its current state stays current.
        other: its states are archived behind those of `recent`, unless they are of another identity
            or stand there already.

    Source: Signal keeps states apart by their base key. Two that share it and have gone on under
    different roots are kept both: which of them the peer follows shows only when it writes.
    """
    known = {_conversation(recent.current)}
    known.update(_conversation(State.from_bytes(data)) for data in recent.archived)
    archived = list(recent.archived)
    for data in (other.current.to_bytes(), *other.archived):
        state = State.from_bytes(data)
        conversation = _conversation(state)
        if state.remote_identity == recent.remote_identity and conversation not in known:
            known.add(conversation)
            archived.append(data)
    return SessionRecord(recent.current, tuple(archived[:MAX_ARCHIVED]))


def _conversation(state: State) -> tuple[bytes, bytes]:
    return state.base_key, state.ratchet.root_key


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
        raise InvalidKeyError("unusable ratchet key") from error
    moved = State(
        state.remote_identity, state.remote_registration_id, state.base_key, None, ratchet
    )
    return moved, plaintext


def _archived_containing(
    record: SessionRecord, key: bytes
) -> Iterator[tuple[State, tuple[bytes, ...]]]:
    """Archived states whose bytes hold the key, newest first.

    Each comes with what would be archived if it became current. Searching the bytes spares parsing
    states that cannot be meant.
    """
    current = b""
    for index, data in enumerate(record.archived):
        if key in data:
            current = current or record.current.to_bytes()
            others = (*record.archived[:index], *record.archived[index + 1 :])
            yield State.from_bytes(data), (current, *others)


def _find_base_key(
    record: SessionRecord, base_key: bytes
) -> tuple[State, tuple[bytes, ...]] | None:
    """The state of this base key, with what is archived if it is or becomes current."""
    if record.current.base_key == base_key:
        return record.current, record.archived
    for state, archived in _archived_containing(record, base_key):
        if state.base_key == base_key:
            return state, archived
    return None


def _install(record: SessionRecord | None, state: State) -> SessionRecord:
    """Make a new state current; of the previous ones keep those of the same identity."""
    if record is None or record.remote_identity != state.remote_identity:
        return SessionRecord(state)
    archived = (record.current.to_bytes(), *record.archived)
    return SessionRecord(state, archived[:MAX_ARCHIVED])
