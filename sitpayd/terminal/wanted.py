"""Wanted: which devices somebody asks to see.

The daemon chooses where it can; what it cannot (a partner by name) is chosen here, and on the live
feed, which knows no search, all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sitpayd.terminal.views import DeviceView


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which devices somebody wants to see; None: whichever.

    Attributes:
        partner: its number, or a part of its name.
        status: one or several, with commas.
        search: part of an id or a name, or the last four digits of a number.
    """

    partner: str | None = None
    status: str | None = None
    search: str | None = None

    @property
    def query(self) -> dict[str, str]:
        """What the daemon is asked; by the name of its partner it cannot choose."""
        asked = {"status": self.status, "q": self.search}
        if self.partner is not None and self.partner.isdecimal():
            asked["partner"] = self.partner
        return {name: value for name, value in asked.items() if value}

    def takes_partner(self, device: DeviceView) -> bool:
        """Whether its partner is the one wanted."""
        if self.partner is None:
            return True
        if self.partner.isdecimal():
            return str(device.partner) == self.partner
        return self.partner.casefold() in (device.partner_name or "").casefold()

    def takes(self, device: DeviceView) -> bool:
        """Whether this device is wanted; the feed has chosen by status already."""
        if not self.takes_partner(device):
            return False
        search = (self.search or "").strip().casefold()
        texts = (device.session_id, device.device_name or "", device.partner_name or "")
        return any(search in text.casefold() for text in texts) or (
            len(search) == 4 and (device.phone or "").endswith(search)
        )
