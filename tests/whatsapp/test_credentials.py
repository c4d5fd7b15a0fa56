from __future__ import annotations

import pytest

from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.errors import LocalProtocolError
from sitpayd.whatsapp.jid import lid, pn
from sitpayd.whatsapp.keys import DeviceKeys
from sitpayd.whatsapp.schema.session_pb2 import Credentials as Stored
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity

PAIRED = PairedIdentity(pn("1", 2), lid("3", 2), b"signed", b"k" * 32, 3, "android", "Shop", 7)
WHOLE = Credentials(DeviceKeys.generate(), PAIRED)


def test_credentials_survive_storage() -> None:
    assert Credentials.from_bytes(WHOLE.to_bytes()) == WHOLE


@pytest.mark.parametrize("field", ["jid", "lid", "platform", "businessName"])
def test_text_at_rest_that_is_no_text_is_our_own_fault(field: str) -> None:
    """The runtime hands such a field out as bytes."""
    stored = WHOLE.to_bytes()
    text = getattr(Stored.FromString(stored).identity, field).encode()
    damaged = stored.replace(text, b"\xff" * len(text))
    with pytest.raises(LocalProtocolError):
        Credentials.from_bytes(damaged)
