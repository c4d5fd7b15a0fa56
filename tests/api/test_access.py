"""Who may do what: every route against every kind of credential."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

import pytest
from quart.testing.connections import WebsocketResponseError

from sitpayd.api.app import FEED_RULE, ROUTES
from sitpayd.api.operations import OPERATIONS
from sitpayd.storage.vault import new_token
from tests.support.front import ADMIN_KEY, Front, Tenant, open_front

BODIES = {
    "/partner/register": {"name": "n", "email": "e@x.com", "domain": "x.com"},
    "/partner/users": {"label": "l", "email": "e@x.com"},
    "/partner/devices": {"device_name": "d"},
    "/partner/devices/<session_id>/proxy": {"proxy": None},
    "/partner/devices/<session_id>/pairing-code": {"phone": "919876543210"},
    "/wa/<device_token>/send": {"to": "919876543210", "message": "Hello!"},
    "/wa/<device_token>/preflight": {"to": "919876543210"},
    "/wa/<device_token>/check": {"numbers": ["919876543210"]},
    "/wa/<device_token>/presence": {"presence": "available"},
    "/wa/<device_token>/typing": {"to": "919876543210", "state": "composing"},
    "/wa/<device_token>/messages/<message_id>/read": {},
    "/admin/tickets": {},
}


class Access(Enum):
    """What a route asks for."""

    OPEN = auto()  # nothing
    LED_ON = auto()  # nothing: there is only the way to another
    PARTNER = auto()  # x-api-key
    USER = auto()  # x-api-key, and x-user-token of one of its users
    OBJECT = auto()  # x-api-key of the owner of what the path names
    OBJECT_TOO_LATE = auto()  # the same, for what cannot be done to a device that is linked
    URL = auto()  # the token in the path
    URL_TOO_LATE = auto()  # the same, for what cannot be done to a message that was sent
    URL_INCOMING = auto()  # the same, for what can be done only to a message that came in
    ADMIN = auto()  # x-admin-key


# A new route has no row here, which fails the test below.
ACCESS = {
    "POST /partner/register": Access.OPEN,
    "GET /partner/me": Access.PARTNER,
    "POST /partner/users": Access.PARTNER,
    "GET /partner/users": Access.PARTNER,
    "GET /partner/users/<user_token>/devices": Access.OBJECT,
    "POST /partner/devices": Access.USER,
    "GET /partner/devices/<session_id>/qr": Access.OBJECT,
    "POST /partner/devices/<session_id>/qr": Access.OBJECT,
    "DELETE /partner/devices/<session_id>/qr": Access.OBJECT,
    "POST /partner/devices/<session_id>/pairing-code": Access.OBJECT_TOO_LATE,
    "GET /partner/devices/<session_id>/status": Access.OBJECT,
    "PUT /partner/devices/<session_id>/proxy": Access.OBJECT,
    "GET /partner/devices/<session_id>/history": Access.OBJECT,
    "DELETE /partner/devices/<session_id>": Access.OBJECT,
    **{f"POST /partner/devices/<session_id>/{name}": Access.OBJECT for name in OPERATIONS},
    "POST /wa/<device_token>/send": Access.URL,
    "GET /wa/<device_token>/messages": Access.URL,
    "GET /wa/<device_token>/messages/<message_id>": Access.URL,
    "DELETE /wa/<device_token>/messages/<message_id>": Access.URL_TOO_LATE,
    "POST /wa/<device_token>/messages/<message_id>/read": Access.URL_INCOMING,
    "POST /wa/<device_token>/preflight": Access.URL,
    "POST /wa/<device_token>/check": Access.URL,
    "POST /wa/<device_token>/presence": Access.URL,
    "POST /wa/<device_token>/typing": Access.URL,
    "GET /admin": Access.LED_ON,
    "GET /admin/": Access.OPEN,
    "GET /admin/page/<name>": Access.OPEN,
    "GET /admin/devices": Access.ADMIN,
    "GET /admin/devices/<session_id>": Access.ADMIN,
    "GET /admin/devices/<session_id>/history": Access.ADMIN,
    "GET /admin/devices/<session_id>/qr": Access.ADMIN,
    "POST /admin/devices/<session_id>/qr": Access.ADMIN,
    **{f"POST /admin/devices/<session_id>/{name}": Access.ADMIN for name in OPERATIONS},
    "POST /admin/tickets": Access.ADMIN,
    "GET /healthz": Access.OPEN,
    "GET /readyz": Access.OPEN,
    "GET /metrics": Access.ADMIN,
    f"GET {FEED_RULE}": Access.ADMIN,
}


@dataclass(frozen=True)
class Kind:
    """A kind of credential, and the status each kind of route answers it with."""

    name: str
    headers: Callable[[Tenant, Tenant], dict[str, str]]
    partner: int
    user: int
    object: int

    def expects(self, access: Access) -> int:
        """The status a route of this access answers."""
        return {
            Access.OPEN: 200,
            Access.LED_ON: 308,
            Access.PARTNER: self.partner,
            Access.USER: self.user,
            Access.OBJECT: self.object,
            Access.OBJECT_TOO_LATE: 409 if self.object == 200 else self.object,
            Access.URL: 200,
            Access.URL_TOO_LATE: 409,
            Access.URL_INCOMING: 422,
            Access.ADMIN: 401,
        }[access]


def keys(api_key: str | None = None, user_token: str | None = None) -> dict[str, str]:
    """Headers with these credentials."""
    named = {"x-api-key": api_key, "x-user-token": user_token}
    return {name: value for name, value in named.items() if value is not None}


# Each is given the owner of what the path names, and a stranger.
KINDS = (
    Kind("nothing", lambda o, s: {}, 401, 401, 401),
    Kind("empty key", lambda o, s: keys("", o.user_token), 401, 401, 401),
    Kind("unknown key", lambda o, s: keys(new_token("pk"), o.user_token), 401, 401, 401),
    Kind("broken key", lambda o, s: keys(o.api_key[:-1], o.user_token), 401, 401, 401),
    Kind("long key", lambda o, s: keys(o.api_key + "0" * 8192, o.user_token), 401, 401, 401),
    Kind("other case", lambda o, s: keys(o.api_key.swapcase(), o.user_token), 401, 401, 401),
    Kind("user token alone", lambda o, s: keys(None, o.user_token), 401, 401, 401),
    Kind("user token as key", lambda o, s: keys(o.user_token, o.user_token), 401, 401, 401),
    Kind("device token as key", lambda o, s: keys(o.device_token, o.user_token), 401, 401, 401),
    Kind("admin key", lambda o, s: {"x-api-key": ADMIN_KEY}, 401, 401, 401),
    Kind("stranger", lambda o, s: keys(s.api_key, s.user_token), 200, 200, 404),
    Kind("stranger, our user", lambda o, s: keys(s.api_key, o.user_token), 200, 404, 404),
    Kind("owner, unknown user", lambda o, s: keys(o.api_key, new_token("pu")), 200, 404, 200),
    Kind("owner, their user", lambda o, s: keys(o.api_key, s.user_token), 200, 404, 200),
    Kind("owner without user", lambda o, s: keys(o.api_key), 200, 401, 200),
    Kind("owner", lambda o, s: keys(o.api_key, o.user_token), 200, 200, 200),
)


def test_every_route_has_its_row() -> None:
    routes = {f"{route.method} {route.rule}" for route in ROUTES} | {f"GET {FEED_RULE}"}

    assert routes == set(ACCESS)


async def test_application_has_no_route_beside_the_table() -> None:
    async with open_front() as front:
        rules = {
            f"{method} {rule.rule}"
            for rule in front.app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }

    assert rules == set(ACCESS)


async def ask(
    front: Front, route: str, owner: Tenant, headers: dict[str, str], message_id: str
) -> int:
    """Make the route's request for what the owner owns; returns the status."""
    method, rule = route.split(" ")
    path = (
        rule.replace("<user_token>", owner.user_token)
        .replace("<session_id>", owner.session_id)
        .replace("<device_token>", owner.device_token)
        .replace("<message_id>", message_id)
        .replace("<name>", "app.js")
    )
    if rule == FEED_RULE:
        return await feed_status(front, headers)
    if method == "POST":
        return (await front.post(path, BODIES.get(rule, {}), headers)).status_code
    if method == "PUT":
        return (await front.client.put(path, json=BODIES[rule], headers=headers)).status_code
    return (await front.ask(method, path, headers=headers)).status_code


async def feed_status(front: Front, headers: dict[str, str]) -> int:
    """The status of the answer to a WebSocket's handshake; 101 if it was opened."""
    async with front.client.websocket(FEED_RULE, headers=headers) as feed:
        try:
            await feed.receive()
        except WebsocketResponseError as refusal:
            return refusal.response.status_code
    return 101


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("route", ACCESS)
async def test_route_answers_a_credential(front: Front, route: str, kind: Kind) -> None:
    owner, stranger = await front.tenant(), await front.tenant()
    sent = await (await front.send(owner)).get_json()

    status = await ask(front, route, owner, kind.headers(owner, stranger), sent["message_id"])

    assert status == kind.expects(ACCESS[route])


@pytest.mark.parametrize("route", [r for r, a in ACCESS.items() if a is Access.ADMIN])
async def test_admin_key_opens_what_is_the_operators(front: Front, route: str) -> None:
    owner = await front.tenant()

    status = await ask(front, route, owner, {"x-admin-key": ADMIN_KEY}, "")

    assert status == (101 if route.endswith(FEED_RULE) else 200)


@pytest.mark.parametrize(
    "route",
    [r for r in ACCESS if " /wa/" in r],
)
@pytest.mark.parametrize(
    "wrong", ["unknown", "broken", "api key", "user token", "session id", "removed", "nonsense"]
)
async def test_send_url_needs_its_own_token(front: Front, route: str, wrong: str) -> None:
    owner, removed = await front.tenant(), await front.tenant()
    await front.ask("DELETE", f"/partner/devices/{removed.session_id}", headers=removed.headers)
    token = {
        "unknown": new_token("dt"),
        "broken": owner.device_token[:-1] + "!",
        "api key": owner.api_key,
        "user token": owner.user_token,
        "session id": owner.session_id,
        "removed": removed.device_token,
        "nonsense": "dt_..%2e%00;x=1",
    }[wrong]
    method, rule = route.split(" ")
    path = rule.replace("<device_token>", token).replace("<message_id>", "msg_1")

    if method == "POST":
        answer = await front.post(path, BODIES[rule], owner.headers)
    else:
        answer = await front.ask(method, path, headers=owner.headers)

    assert answer.status_code == 401


@pytest.mark.parametrize(
    "route",
    [r for r, access in ACCESS.items() if access in (Access.OBJECT, Access.OBJECT_TOO_LATE)],
)
async def test_foreign_object_answers_as_one_that_does_not_exist(front: Front, route: str) -> None:
    owner, stranger = await front.tenant(), await front.tenant()
    method, rule = route.split(" ")
    answers = []
    for user_token, session_id in (
        (owner.user_token, owner.session_id),
        (new_token("pu"), "wa_" + "0" * 20),
        ("../%00", "../%00"),
    ):
        path = rule.replace("<user_token>", user_token).replace("<session_id>", session_id)
        answer = await front.ask(method, path.replace("../", "..%2f"), headers=stranger.headers)
        body = await answer.get_json()
        body.pop("request_id")
        answers.append((answer.status_code, body, list(answer.headers.keys())))

    assert answers[0][0] == 404
    assert answers[0] == answers[1]
    assert answers[2][0] == 404


async def test_message_of_another_device_is_not_found(front: Front) -> None:
    owner, stranger = await front.tenant(), await front.tenant()
    sent = await (await front.send(owner)).get_json()

    for path in (f"messages/{sent['message_id']}", f"messages?after={sent['message_id']}"):
        answer = await front.ask("GET", f"/wa/{stranger.device_token}/{path}")

        assert answer.status_code in (400, 404)
        assert "Hello" not in await answer.get_data(True)


async def test_mixed_owners_create_nothing(front: Front) -> None:
    owner, stranger = await front.tenant(), await front.tenant()

    answer = await front.post(
        "/partner/devices", {"device_name": "d"}, keys(stranger.api_key, owner.user_token)
    )

    assert answer.status_code == 404
    for tenant in (owner, stranger):
        profile = await front.ask("GET", "/partner/me", headers=tenant.headers)
        assert (await profile.get_json())["stats"]["devices"]["total"] == 1
