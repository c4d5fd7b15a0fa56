"""What parsers want besides the input: by the parameter's name, or for one parser alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sitpayd.whatsapp.errors import PairingError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.signal.session import PreKeyBundle
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


class _ForEverybody(dict[Jid, PreKeyBundle]):
    """Whoever is asked for has a bundle."""

    def __missing__(self, jid: Jid) -> PreKeyBundle:
        return BUNDLE


ARGUMENTS: Final[Mapping[str, object]] = {
    "account_key": PHONE.public_key,
    "active": True,
    "bundles": _ForEverybody(),
    "code": 500,
    "count": 2,
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
    "text": "why",
    "users": (UserAnswer(PEER_PN, lid=PEER_LID, contact=("1", True)),),
    "stanzas.pairing.pairing_error.error": PairingError(401, "hmac-mismatch"),
    "stanzas.wire.parse_public_key.tag": "identity",
}
