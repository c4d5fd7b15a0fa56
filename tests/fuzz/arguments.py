"""What parsers want besides the input: for one alone, by the parameter's name, or by its type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING as MISSING_DEFAULT
from dataclasses import fields, is_dataclass
from hashlib import sha256
from inspect import Parameter
from types import NoneType, UnionType
from typing import Final, Union, get_args, get_origin

from sitpayd.whatsapp import media
from sitpayd.whatsapp.errors import PairingError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas.mex import NewChatCap
from sitpayd.whatsapp.stanzas.prekeys import Upload
from sitpayd.whatsapp.stanzas.usync import UserAnswer
from tests.fuzz.certificates import STATIC
from tests.fuzz.people import (
    KEYS,
    NOW,
    OWN_LID,
    OWN_PN,
    PEER_LID,
    PEER_PN,
    PHONE,
    ROOT,
)

MISSING: Final = object()

BUNDLE: Final = PreKeyBundle(
    registration_id=7,
    identity=KEYS.identity.public_key,
    signed_prekey_id=1,
    signed_prekey=KEYS.signed_prekey.key_pair.public_key,
    signature=KEYS.signed_prekey.signature,
    prekey_id=7,
    prekey=PHONE.public_key,
)
UPLOAD: Final = Upload(
    registration_id=7,
    identity=KEYS.identity.public_key,
    signed_prekey_id=1,
    signed_prekey=KEYS.signed_prekey.key_pair.public_key,
    signature=KEYS.signed_prekey.signature,
    prekeys=((7, PHONE.public_key),),
)
_PLAIN: Final = b"what a file holds" * 99
FILE_BLOB: Final = media.encrypt(_PLAIN, bytes(32), media.HISTORY)
FILE: Final = media.media_file(
    "/v/file", bytes(32), sha256(FILE_BLOB).digest(), sha256(_PLAIN).digest(), len(_PLAIN)
)


class _ForEverybody(dict[Jid, PreKeyBundle]):
    """Whoever is asked for has a bundle."""

    def __missing__(self, jid: Jid) -> PreKeyBundle:
        return BUNDLE


ARGUMENTS: Final[Mapping[str, object]] = {
    "account_key": PHONE.public_key,
    "active": True,
    "bundles": _ForEverybody(),
    "cap": NewChatCap(is_reached=False),
    "code": 500,
    "count": 2,
    "file": FILE,
    "from_": OWN_PN,
    "from_me": False,
    "identity": KEYS.identity.public_key,
    "keys": KEYS,
    "now": NOW,
    "own_device": OWN_PN,
    "own_lid": OWN_LID,
    "own_pn": OWN_PN,
    "ref": b"ref",
    "registration_id": 7,
    "root_key": ROOT.public_key,
    "server_static": STATIC.public_key,
    "stored": UPLOAD,
    "t": 7,
    "max_len": 1 << 20,
    "purpose": media.HISTORY,
    "text": "why",
    "users": (UserAnswer(PEER_PN, lid=PEER_LID, contact=("1", True)),),
    "stanzas.pairing.pairing_error.error": PairingError(401, "hmac-mismatch"),
    "stanzas.wire.parse_public_key.tag": "identity",
}


def argument(parser: str, name: str, hint: object, default: object) -> object:
    """What a parser gets for a parameter; `MISSING`: nobody knows.

    Args:
        default: the parameter's own; `inspect.Parameter.empty` if it has none.
    """
    if f"{parser}.{name}" in ARGUMENTS:
        return ARGUMENTS[f"{parser}.{name}"]
    if default is not Parameter.empty:
        return default
    return ARGUMENTS[name] if name in ARGUMENTS else _of_type(hint)


def _of_type(hint: object) -> object:
    if get_origin(hint) in (Union, UnionType):
        known = (_of_type(inner) for inner in get_args(hint))
        return next((value for value in known if value is not MISSING), MISSING)
    if isinstance(hint, type) and is_dataclass(hint):
        # One that says nothing, if it may.
        needed = any(f.default is MISSING_DEFAULT is f.default_factory for f in fields(hint))
        return MISSING if needed else hint()
    plain: dict[object, object] = {NoneType: None, str: "text", bytes: b"bytes", int: 7, bool: True}
    empty: dict[object, object] = {Mapping: {}, Sequence: (), Iterable: (), tuple: ()}
    return plain.get(hint, empty.get(get_origin(hint), MISSING))
