"""Jid: the address of a user, a device, a group or a server.

Only the value and its text form. How it stands on the wire is codec.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .errors import RemoteProtocolError

PN_SERVER: Final = "s.whatsapp.net"
LID_SERVER: Final = "lid"
GROUP_SERVER: Final = "g.us"
BROADCAST_SERVER: Final = "broadcast"
NEWSLETTER_SERVER: Final = "newsletter"
BOT_SERVER: Final = "bot"
HOSTED_SERVER: Final = "hosted"
HOSTED_LID_SERVER: Final = "hosted.lid"
FB_SERVER: Final = "msgr"
INTEROP_SERVER: Final = "interop"
# The old name of PN_SERVER; it still stands in contact queries.
LEGACY_PN_SERVER: Final = "c.us"
# Servers whose addresses may name a device, and the highest one that fits on the wire.
MAX_DEVICE: Final = {
    PN_SERVER: 0xFF,
    LID_SERVER: 0xFF,
    HOSTED_SERVER: 0xFF,
    HOSTED_LID_SERVER: 0xFF,
    FB_SERVER: 0xFFFF,
    INTEROP_SERVER: 0xFFFF,
}
_MAX_INTEGRATOR: Final = 0xFFFF


@dataclass(frozen=True, slots=True, init=False)
class Jid:
    """An address.

    Attributes:
        user: digits for PN and LID, otherwise any text; "" for a server alone.
        server: the part behind "@".
        device: 0 is the phone, others are companions.
        integrator: only for the server "interop".

    Source: whatsmeow types/jid.go.
    """

    user: str
    server: str
    device: int
    integrator: int

    def __init__(self, user: str, server: str, device: int = 0, integrator: int = 0) -> None:
        # As in node.py, and for the same reason.
        _set_user(self, user)
        _set_server(self, server)
        _set_device(self, device)
        _set_integrator(self, integrator)

    def __str__(self) -> str:
        user = f"{self.integrator}-{self.user}" if self.integrator else self.user
        if self.device:
            user = f"{user}:{self.device}"
        return f"{user}@{self.server}"

    @classmethod
    def parse(cls, text: str) -> Jid:
        """Parse the text form `user[.agent][:device]@server`.

        What it gives can be written: a stanza is answered with the addresses it came with.

        Raises:
            RemoteProtocolError: If there is no "@", or the device is no number that fits.
        """
        user, at, server = text.partition("@")
        if not at or not server or "@" in server:
            raise RemoteProtocolError("a JID needs exactly one @ and a server")
        if server == LEGACY_PN_SERVER:
            server = PN_SERVER
        device = integrator = 0
        max_device = MAX_DEVICE.get(server)
        if max_device is not None:
            user, colon, device_text = user.partition(":")
            if colon:
                if not (device_text.isascii() and device_text.isdigit() and len(device_text) <= 5):
                    raise RemoteProtocolError("the device of a JID is not a number")
                device = int(device_text)
                if device > max_device:
                    raise RemoteProtocolError("the device of a JID does not fit on the wire")
            if server in (PN_SERVER, LID_SERVER, HOSTED_SERVER, HOSTED_LID_SERVER):
                user = user.partition(".")[0].partition("_")[0]
        if server == INTEROP_SERVER and "-" in user:
            first, _, rest = user.partition("-")
            is_number = first.isascii() and first.isdigit() and len(first) <= 5
            if is_number and int(first) <= _MAX_INTEGRATOR:
                user, integrator = rest, int(first)
        return cls(user, server, device, integrator)

    @property
    def bare(self) -> Jid:
        """The user without the device."""
        return self.with_device(0) if self.device else self

    def with_device(self, device: int) -> Jid:
        """Name a device of this user."""
        return Jid(self.user, self.server, device, self.integrator)

    @property
    def is_lid(self) -> bool:
        """Whether this is a LID address, hosted or not."""
        return self.server in (LID_SERVER, HOSTED_LID_SERVER)

    @property
    def is_user(self) -> bool:
        """Whether this names a person (PN or LID), not a group, server or channel."""
        return bool(self.user) and self.server in (
            PN_SERVER,
            LID_SERVER,
            HOSTED_SERVER,
            HOSTED_LID_SERVER,
        )


_set_user, _set_server, _set_device, _set_integrator = (
    Jid.__dict__[name].__set__ for name in Jid.__slots__
)

SERVER_JID: Final = Jid("", PN_SERVER)


def pn(user: str, device: int = 0) -> Jid:
    """Name a phone number's account or device."""
    return Jid(user, PN_SERVER, device)


def lid(user: str, device: int = 0) -> Jid:
    """Name a LID account or device."""
    return Jid(user, LID_SERVER, device)
