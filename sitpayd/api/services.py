"""Services: what every route may use, made once by app.py."""

from __future__ import annotations

from dataclasses import dataclass

from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.status import DeviceStatus, StatusBoard, stored_status
from sitpayd.api.auth import Guard
from sitpayd.api.drain import Drain
from sitpayd.api.limits import RegistrationLimit
from sitpayd.api.qr import Pictures
from sitpayd.api.tickets import Tickets
from sitpayd.api.trials import ProxyTrials
from sitpayd.api.views import DeviceViews
from sitpayd.metrics import Metrics
from sitpayd.settings import Settings
from sitpayd.storage.database import Database
from sitpayd.storage.records import DeviceRecord


@dataclass(frozen=True, slots=True)
class Services:
    """The rest of the daemon, as the routes see it."""

    registry: DeviceRegistry
    database: Database
    board: StatusBoard
    outcomes: Outcomes
    settings: Settings
    guard: Guard
    registrations: RegistrationLimit
    pictures: Pictures
    trials: ProxyTrials
    drain: Drain
    views: DeviceViews
    tickets: Tickets
    metrics: Metrics

    def send_url(self, device: DeviceRecord) -> str:
        """The device's own send URL; it holds the token."""
        return f"{self.settings.base_url}/wa/{device.token}/send"

    def message_url(self, device: DeviceRecord, message_id: str) -> str:
        """Where a message's state is shown; it holds the token."""
        return f"{self.settings.base_url}/wa/{device.token}/messages/{message_id}"

    def qr_url(self, device: DeviceRecord) -> str:
        """Where the device's QR code is shown."""
        return f"{self.settings.base_url}/partner/devices/{device.session_id}/qr"

    def status_of(self, device: DeviceRecord) -> DeviceStatus:
        """The device's latest status; for one that has no actor yet, what its record tells."""
        return self.views.status(self.board.get(device.session_id) or stored_status(device))
