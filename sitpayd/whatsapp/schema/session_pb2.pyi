from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Chain(_message.Message):
    __slots__ = ("ratchetKey", "chainKey", "counter", "skipped")
    RATCHETKEY_FIELD_NUMBER: _ClassVar[int]
    CHAINKEY_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    ratchetKey: bytes
    chainKey: bytes
    counter: int
    skipped: bytes
    def __init__(self, ratchetKey: _Optional[bytes] = ..., chainKey: _Optional[bytes] = ..., counter: _Optional[int] = ..., skipped: _Optional[bytes] = ...) -> None: ...

class Pending(_message.Message):
    __slots__ = ("preKeyId", "signedPreKeyId")
    PREKEYID_FIELD_NUMBER: _ClassVar[int]
    SIGNEDPREKEYID_FIELD_NUMBER: _ClassVar[int]
    preKeyId: int
    signedPreKeyId: int
    def __init__(self, preKeyId: _Optional[int] = ..., signedPreKeyId: _Optional[int] = ...) -> None: ...

class State(_message.Message):
    __slots__ = ("remoteIdentity", "rootKey", "sendingPrivate", "sendingPublic", "sendingChainKey", "sendingCounter", "previousCounter", "receiving", "baseKey", "pending", "remoteRegistrationId")
    REMOTEIDENTITY_FIELD_NUMBER: _ClassVar[int]
    ROOTKEY_FIELD_NUMBER: _ClassVar[int]
    SENDINGPRIVATE_FIELD_NUMBER: _ClassVar[int]
    SENDINGPUBLIC_FIELD_NUMBER: _ClassVar[int]
    SENDINGCHAINKEY_FIELD_NUMBER: _ClassVar[int]
    SENDINGCOUNTER_FIELD_NUMBER: _ClassVar[int]
    PREVIOUSCOUNTER_FIELD_NUMBER: _ClassVar[int]
    RECEIVING_FIELD_NUMBER: _ClassVar[int]
    BASEKEY_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    REMOTEREGISTRATIONID_FIELD_NUMBER: _ClassVar[int]
    remoteIdentity: bytes
    rootKey: bytes
    sendingPrivate: bytes
    sendingPublic: bytes
    sendingChainKey: bytes
    sendingCounter: int
    previousCounter: int
    receiving: _containers.RepeatedCompositeFieldContainer[Chain]
    baseKey: bytes
    pending: Pending
    remoteRegistrationId: int
    def __init__(self, remoteIdentity: _Optional[bytes] = ..., rootKey: _Optional[bytes] = ..., sendingPrivate: _Optional[bytes] = ..., sendingPublic: _Optional[bytes] = ..., sendingChainKey: _Optional[bytes] = ..., sendingCounter: _Optional[int] = ..., previousCounter: _Optional[int] = ..., receiving: _Optional[_Iterable[_Union[Chain, _Mapping]]] = ..., baseKey: _Optional[bytes] = ..., pending: _Optional[_Union[Pending, _Mapping]] = ..., remoteRegistrationId: _Optional[int] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("current", "archived")
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    current: State
    archived: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, current: _Optional[_Union[State, _Mapping]] = ..., archived: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Credentials(_message.Message):
    __slots__ = ("noisePrivate", "identityPrivate", "signedPreKeyId", "signedPreKeyPrivate", "signedPreKeySignature", "registrationId", "advSecret", "identity")
    class Identity(_message.Message):
        __slots__ = ("jid", "lid", "signedIdentity", "accountKey", "keyIndex", "platform", "businessName", "serverTime")
        JID_FIELD_NUMBER: _ClassVar[int]
        LID_FIELD_NUMBER: _ClassVar[int]
        SIGNEDIDENTITY_FIELD_NUMBER: _ClassVar[int]
        ACCOUNTKEY_FIELD_NUMBER: _ClassVar[int]
        KEYINDEX_FIELD_NUMBER: _ClassVar[int]
        PLATFORM_FIELD_NUMBER: _ClassVar[int]
        BUSINESSNAME_FIELD_NUMBER: _ClassVar[int]
        SERVERTIME_FIELD_NUMBER: _ClassVar[int]
        jid: str
        lid: str
        signedIdentity: bytes
        accountKey: bytes
        keyIndex: int
        platform: str
        businessName: str
        serverTime: int
        def __init__(self, jid: _Optional[str] = ..., lid: _Optional[str] = ..., signedIdentity: _Optional[bytes] = ..., accountKey: _Optional[bytes] = ..., keyIndex: _Optional[int] = ..., platform: _Optional[str] = ..., businessName: _Optional[str] = ..., serverTime: _Optional[int] = ...) -> None: ...
    NOISEPRIVATE_FIELD_NUMBER: _ClassVar[int]
    IDENTITYPRIVATE_FIELD_NUMBER: _ClassVar[int]
    SIGNEDPREKEYID_FIELD_NUMBER: _ClassVar[int]
    SIGNEDPREKEYPRIVATE_FIELD_NUMBER: _ClassVar[int]
    SIGNEDPREKEYSIGNATURE_FIELD_NUMBER: _ClassVar[int]
    REGISTRATIONID_FIELD_NUMBER: _ClassVar[int]
    ADVSECRET_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    noisePrivate: bytes
    identityPrivate: bytes
    signedPreKeyId: int
    signedPreKeyPrivate: bytes
    signedPreKeySignature: bytes
    registrationId: int
    advSecret: bytes
    identity: Credentials.Identity
    def __init__(self, noisePrivate: _Optional[bytes] = ..., identityPrivate: _Optional[bytes] = ..., signedPreKeyId: _Optional[int] = ..., signedPreKeyPrivate: _Optional[bytes] = ..., signedPreKeySignature: _Optional[bytes] = ..., registrationId: _Optional[int] = ..., advSecret: _Optional[bytes] = ..., identity: _Optional[_Union[Credentials.Identity, _Mapping]] = ...) -> None: ...
