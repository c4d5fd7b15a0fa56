"""Routes of partners and their users: register, profile, users."""

from __future__ import annotations

from collections.abc import AsyncIterator

from quart import request

from sitpayd.actors.phase import Phase
from sitpayd.api.errors import ApiError
from sitpayd.api.limits import client_site
from sitpayd.api.schemas import RegisterBody, UserBody, read_body
from sitpayd.api.services import Services
from sitpayd.log import get_logger
from sitpayd.storage import partners
from sitpayd.storage.records import UserRecord

log = get_logger()

Answer = dict[str, object]


async def register(api: Services) -> Answer:
    """POST /partner/register: a new partner; its key is shown here and never again."""
    body = await read_body(request, RegisterBody)
    wait_s = api.registrations.take(client_site(request))
    if wait_s is not None:
        raise ApiError(
            "too_many_registrations",
            "Too many partners were registered within the hour.",
            retry_after_s=wait_s,
        )
    partner, key = await api.database.write(
        partners.create_partner, body.name, body.email, body.domain
    )
    log.info("partner.registered", partner_id=partner.id)
    return {"type": "success", "api_key": key}


async def profile(api: Services) -> Answer:
    """GET /partner/me: the partner and its figures."""
    partner = await api.guard.partner(request.headers)
    stats = await api.database.read(partners.partner_stats, partner.id)
    by_status = api.board.count(partner.id)
    return {
        "type": "success",
        "partner": {
            "name": partner.name,
            "email": partner.email,
            "domain": partner.domain,
            "created_at": partner.created_at.isoformat(),
        },
        "stats": {
            "users": stats.users,
            "devices": {
                "total": stats.devices,
                "connected": by_status.pop(Phase.CONNECTED, 0),
                **by_status,
            },
            "messages_sent": stats.messages_sent,
        },
    }


async def create_user(api: Services) -> Answer:
    """POST /partner/users: a new end user with a token of its own."""
    partner = await api.guard.partner(request.headers)
    body = await read_body(request, UserBody)
    user = await api.database.write(partners.create_user, partner.id, body.label, body.email)
    return {"type": "success", "user_token": user.token}


async def list_users(api: Services) -> Answer:
    """GET /partner/users: all users of the partner."""
    partner = await api.guard.partner(request.headers)
    return {
        "type": "success",
        "users": [
            {
                "user_token": user.token,
                "label": user.label,
                "email": user.email,
                "created_at": user.created_at.isoformat(),
            }
            async for user in _users(api, partner.id)
        ],
    }


async def _users(api: Services, partner_id: int) -> AsyncIterator[UserRecord]:
    """Read them page by page: no read holds a reader for long."""
    after: int | None = None
    while page := await api.database.read(partners.users_of, partner_id, after):
        for user in page:
            yield user
        after = page[-1].id
