"""The front door: every route in one table, and the application that serves them.

What a route does stands in its own file; who may ask in auth.py; what errors look like in
errors.py; what happens before any of it in gate.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from quart import Response, request
from quart.typing import ResponseReturnValue
from quart_trio import QuartTrio

from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.status import StatusBoard
from sitpayd.api import (
    admin,
    checking,
    devices,
    errors,
    feed,
    health,
    history,
    messages,
    monitoring,
    page,
    pairing,
    partners,
    preflight,
    presence,
    proxies,
    sending,
)
from sitpayd.api.auth import Guard
from sitpayd.api.direct import SEND_RULE, Direct
from sitpayd.api.drain import Drain
from sitpayd.api.exchange import Answer
from sitpayd.api.gate import Gate
from sitpayd.api.limits import RegistrationLimit
from sitpayd.api.notes import current_notes
from sitpayd.api.operations import OPERATIONS, of_operator, of_partner
from sitpayd.api.qr import Pictures
from sitpayd.api.services import Services
from sitpayd.api.tickets import Tickets
from sitpayd.api.trials import ProxyTrials
from sitpayd.api.views import DeviceViews
from sitpayd.metrics import Metrics
from sitpayd.settings import Settings
from sitpayd.storage.database import Database


@dataclass(frozen=True, slots=True)
class Route:
    """One route: method, rule and what answers."""

    method: str
    rule: str
    handler: Callable[..., Awaitable[ResponseReturnValue | Answer]]


ROUTES: Final = (
    Route("POST", "/partner/register", partners.register),
    Route("GET", "/partner/me", partners.profile),
    Route("POST", "/partner/users", partners.create_user),
    Route("GET", "/partner/users", partners.list_users),
    Route("GET", "/partner/users/<user_token>/devices", devices.list_of_user),
    Route("POST", "/partner/devices", devices.create),
    Route("GET", "/partner/devices/<session_id>/qr", pairing.show_qr),
    Route("POST", "/partner/devices/<session_id>/qr", pairing.begin_qr),
    Route("DELETE", "/partner/devices/<session_id>/qr", pairing.cancel),
    Route("POST", "/partner/devices/<session_id>/pairing-code", pairing.pairing_code),
    Route("GET", "/partner/devices/<session_id>/status", devices.status),
    Route("PUT", "/partner/devices/<session_id>/proxy", proxies.change),
    Route("GET", "/partner/devices/<session_id>/history", history.own_history),
    Route("DELETE", "/partner/devices/<session_id>", devices.remove),
    *(
        Route("POST", f"/partner/devices/<session_id>/{operation}", of_partner(operation))
        for operation in OPERATIONS
    ),
    Route("GET", "/admin/devices", admin.list_devices),
    Route("GET", "/admin/devices/<session_id>", admin.show_device),
    Route("GET", "/admin/devices/<session_id>/history", history.any_history),
    Route("GET", "/admin/devices/<session_id>/qr", admin.show_qr),
    Route("POST", "/admin/devices/<session_id>/qr", admin.begin_qr),
    *(
        Route("POST", f"/admin/devices/<session_id>/{operation}", of_operator(operation))
        for operation in OPERATIONS
    ),
    Route("POST", "/admin/tickets", admin.ticket),
    Route("POST", SEND_RULE, sending.send),
    Route("GET", "/wa/<device_token>/messages", messages.list_messages),
    Route("GET", "/wa/<device_token>/messages/<message_id>", messages.show_message),
    Route("DELETE", "/wa/<device_token>/messages/<message_id>", messages.cancel_message),
    Route("POST", "/wa/<device_token>/messages/<message_id>/read", messages.mark_read),
    Route("POST", "/wa/<device_token>/preflight", preflight.preflight),
    Route("POST", "/wa/<device_token>/check", checking.check),
    Route("POST", "/wa/<device_token>/presence", presence.set_presence),
    Route("POST", "/wa/<device_token>/typing", presence.show_typing),
    Route("GET", "/admin", page.lead),
    Route("GET", "/admin/", page.index),
    Route("GET", "/admin/page/<name>", page.asset),
    Route("GET", "/healthz", health.healthz),
    Route("GET", "/readyz", health.readyz),
    Route("GET", "/metrics", monitoring.metrics),
)
FEED_RULE: Final = "/admin/feed"


class Api(QuartTrio):
    """The application.

    Attributes:
        drain: begin it when the daemon stops, before the server.
    """

    drain: Drain


def create_app(
    registry: DeviceRegistry,
    database: Database,
    board: StatusBoard,
    outcomes: Outcomes,
    settings: Settings,
    metrics: Metrics | None = None,
) -> Api:
    """Make the application from the rest of the daemon."""
    metrics = metrics or Metrics()
    app = Api("sitpayd", static_folder=None)
    app.drain = Drain()
    services = Services(
        registry=registry,
        database=database,
        board=board,
        outcomes=outcomes,
        settings=settings,
        guard=Guard(database, settings.admin_key),
        registrations=RegistrationLimit(
            settings.registrations_per_address, settings.registrations_per_hour
        ),
        pictures=Pictures(),
        trials=ProxyTrials(settings),
        drain=app.drain,
        views=DeviceViews(registry, database),
        tickets=Tickets(),
        metrics=metrics,
    )
    # A rule that nearly matches must not answer with a redirect: it would repeat the path.
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider
    for route in ROUTES:
        app.add_url_rule(
            route.rule,
            f"{route.method} {route.rule}",
            partial(route.handler, services),  # type: ignore[arg-type]  # a send never comes here
            methods=[route.method],
            strict_slashes=True,
        )
    app.add_websocket(FEED_RULE, "feed", partial(feed.feed, services))
    app.before_request(_note_route)
    app.before_websocket(_note_feed)
    app.register_error_handler(Exception, _answer_error)
    # The gate stands around everything, also around what the framework answers by itself.
    app.asgi_app = Gate(  # type: ignore[method-assign]
        Direct(app.asgi_app, partial(sending.send, services)), settings.base_url, metrics
    )
    return app


async def _note_route() -> None:
    if request.url_rule is not None:
        current_notes().route = request.url_rule.rule


async def _note_feed() -> None:
    current_notes().route = FEED_RULE


async def _answer_error(error: Exception) -> Response:
    return errors.of_exception(error).response()
