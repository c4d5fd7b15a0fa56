"""Filters: which devices an operator asks for, in a list or on the feed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from werkzeug.datastructures import MultiDict

from sitpayd.actors.phase import Phase
from sitpayd.actors.status import DeviceStatus
from sitpayd.api.errors import ApiError

_STATUSES: Final = frozenset(phase.value for phase in Phase)


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """What a device must be to be shown.

    Attributes:
        partner: id of its partner; None: any.
        statuses: one of these; empty: any.
    """

    partner: int | None = None
    statuses: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, query: MultiDict[str, str]) -> DeviceFilter:
        """Read `partner` and `status`, a list with commas, from a query.

        Raises:
            ApiError: 400 if `partner` is no number, or a status is none of ours.
        """
        statuses = frozenset(query["status"].split(",")) if query.get("status") else frozenset()
        if not statuses <= _STATUSES:
            raise ApiError("invalid_query", "`status` names no status.", field="status")
        partner = query.get("partner") or None
        if partner is None:
            return cls(None, statuses)
        if not (partner.isascii() and partner.isdigit() and len(partner) <= 18):
            raise ApiError("invalid_query", "`partner` must be a number.", field="partner")
        return cls(int(partner), statuses)

    def concerns(self, partner_id: int) -> bool:
        """Whether devices of this partner are asked for."""
        return self.partner is None or self.partner == partner_id

    def takes(self, known: DeviceStatus) -> bool:
        """Whether this device is asked for."""
        return self.concerns(known.partner_id) and self.takes_status(known.status)

    def takes_status(self, status: str) -> bool:
        """Whether devices of this status are asked for."""
        return not self.statuses or status in self.statuses
