"""The WhatsApp multi-device protocol without I/O, for both roles.

Bytes and values in, bytes and values out. Nothing here waits, looks at a clock, or knows of
sitpayd. The names below are the way in; stanza families stand in `stanzas`, Signal in `signal`.
"""

from .codec import decode, encode
from .connection import Connection
from .credentials import Credentials
from .errors import (
    DecryptError,
    HandshakeError,
    LocalProtocolError,
    PairingError,
    RemoteProtocolError,
    ResumptionError,
    WhatsAppError,
)
from .events import Event, HandshakeCompleted, NodeReceived, NodeRejected
from .jid import Jid
from .keys import DeviceKeys, KeyPair, PreKey, SignedPreKey
from .message_id import new_wa_message_id
from .node import Node
from .noise import WHATSAPP_ROOT_KEY, KnownServer, ServerKeys
from .signal.session import PreKeyBundle, SessionRecord

__all__ = [
    "WHATSAPP_ROOT_KEY",
    "Connection",
    "Credentials",
    "DecryptError",
    "DeviceKeys",
    "Event",
    "HandshakeCompleted",
    "HandshakeError",
    "Jid",
    "KeyPair",
    "KnownServer",
    "LocalProtocolError",
    "Node",
    "NodeReceived",
    "NodeRejected",
    "PairingError",
    "PreKey",
    "PreKeyBundle",
    "RemoteProtocolError",
    "ResumptionError",
    "ServerKeys",
    "SessionRecord",
    "SignedPreKey",
    "WhatsAppError",
    "decode",
    "encode",
    "new_wa_message_id",
]
