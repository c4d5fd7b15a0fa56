"""Auth: from tokens to partner, user and device; the admin key.

A token with a wrong checksum costs no query. Who was found once is remembered by digest, so that
neither the database nor the seal is opened for each request; a removed device is forgotten by the
call that removes it. What is not found is not remembered.
"""

from __future__ import annotations

import hmac
import os
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b, sha256
from typing import Final, Generic, TypeVar

from pydantic import SecretStr
from werkzeug.datastructures import Headers

from sitpayd.api.errors import ApiError
from sitpayd.api.limits import RequestLimit
from sitpayd.storage import devices, partners
from sitpayd.storage.database import Database
from sitpayd.storage.records import DeviceRecord, PartnerRecord, UserRecord
from sitpayd.storage.vault import is_token

API_KEY_HEADER: Final = "x-api-key"
USER_TOKEN_HEADER: Final = "x-user-token"
ADMIN_KEY_HEADER: Final = "x-admin-key"
AUTHORIZATION_HEADER: Final = "authorization"

# Records of each kind that are remembered; some hundred bytes each.
MAX_REMEMBERED: Final = 10_000

T = TypeVar("T")


class Guard:
    """Finds out who asks, or refuses.

    Args:
        admin_key: None: nobody is an admin.
    """

    def __init__(self, database: Database, admin_key: SecretStr | None) -> None:
        self._database = database
        self._requests = RequestLimit()
        self._admin_digest = (
            None if admin_key is None else _plain_digest(admin_key.get_secret_value())
        )
        self._partners: _Memory[PartnerRecord] = _Memory()
        self._users: _Memory[UserRecord] = _Memory()
        self._devices: _Memory[DeviceRecord] = _Memory()

    async def partner(self, headers: Headers) -> PartnerRecord:
        """Find the partner by the header x-api-key.

        Raises:
            ApiError: 401 if there is none with this key; 400 if there are two keys; 429 if it asks
                too often.
        """
        key = _only(headers, API_KEY_HEADER)
        if not is_token("pk", key):
            raise _unauthorized(API_KEY_HEADER)
        partner = self._partners.get(key)
        if partner is None:
            keep = self._partners.keeper(key)
            partner = await self._database.read(partners.partner_by_key, key)
            if partner is None:
                raise _unauthorized(API_KEY_HEADER)
            keep(partner)
        await self._take_turn(partner.id)
        return partner

    async def user(self, headers: Headers, partner: PartnerRecord) -> UserRecord:
        """Find the partner's user by the header x-user-token.

        Raises:
            ApiError: 404 if the partner has none with this token; 401 if there is no token, 400 if
                there are two.
        """
        token = _only(headers, USER_TOKEN_HEADER)
        if not token:
            raise _unauthorized(USER_TOKEN_HEADER)
        return await self.user_by_token(token, partner)

    async def user_by_token(self, token: str, partner: PartnerRecord) -> UserRecord:
        """Find the partner's user by token.

        Raises:
            ApiError: 404 if the partner has none with this token.
        """
        user: UserRecord | None = None
        if is_token("pu", token):
            user = self._users.get(token)
            if user is None:
                keep = self._users.keeper(token)
                user = await self._database.read(partners.user_by_token, partner.id, token)
                user = user and keep(user)
        if user is None or user.partner_id != partner.id:
            raise ApiError("not_found", "There is no such user.")
        return user

    async def device(self, token: str) -> DeviceRecord:
        """Find the device whose send token this is.

        Raises:
            ApiError: 401 if there is none; 429 if its partner asks too often.
        """
        if not is_token("dt", token):
            raise unknown_device_token()
        device = self._devices.get(token)
        if device is None:
            keep = self._devices.keeper(token)
            device = await self._database.read(devices.device_by_token, token)
            if device is None:
                raise unknown_device_token()
            keep(device)
        await self._take_turn(device.partner_id)
        return device

    async def _take_turn(self, partner_id: int) -> None:
        retry_after_s = await self._requests.turn(partner_id)
        if retry_after_s is not None:
            raise ApiError(
                "too_many_requests",
                "This partner asks too often.",
                retry_after_s=retry_after_s,
            )

    def forget_device(self, device: DeviceRecord) -> None:
        """Forget a removed device; call it after the commit. `device` is as it was before."""
        self._devices.drop(device.token)

    def admin(self, headers: Headers) -> None:
        """Check the header x-admin-key.

        Raises:
            ApiError: 401 if it is not the admin key, or there is none; 400 if there are two.
        """
        self._check_admin_key(_only(headers, ADMIN_KEY_HEADER), ADMIN_KEY_HEADER)

    def scraper(self, headers: Headers) -> None:
        """Check the admin key in x-admin-key, or as a bearer token: all that Prometheus can say.

        Raises:
            ApiError: 401 if there is none or a wrong one; 400 if there are two.
        """
        bearer = _only(headers, AUTHORIZATION_HEADER)
        if not bearer:
            self.admin(headers)
            return
        if ADMIN_KEY_HEADER in headers:
            raise ApiError("ambiguous_credentials", "There are two credentials.")
        scheme, _, key = bearer.partition(" ")
        key = key.strip(" ") if scheme.lower() == "bearer" else ""
        self._check_admin_key(key, AUTHORIZATION_HEADER)

    def _check_admin_key(self, key: str, header: str) -> None:
        if self._admin_digest is None:
            # Told apart: whoever types a key again and again should know that none is right.
            raise ApiError("no_admin_key", "This daemon has no admin key.", field=header)
        if not hmac.compare_digest(_plain_digest(key), self._admin_digest):
            raise _unauthorized(header)


class _Memory(Generic[T]):
    """The records found last, by digest of their token: a token itself is not kept."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._records: OrderedDict[bytes, T] = OrderedDict()
        self._drops = 0

    def get(self, token: str) -> T | None:
        digest = self._digest(token)
        record = self._records.get(digest)
        if record is not None:
            self._records.move_to_end(digest)
        return record

    def keeper(self, token: str) -> Callable[[T], T]:
        """Prepare to remember what a look-up that begins now will find."""
        drops = self._drops

        def keep(record: T) -> T:
            # A record dropped while it was looked up must not come back.
            if self._drops == drops:
                self._records[self._digest(token)] = record
                if len(self._records) > MAX_REMEMBERED:
                    self._records.popitem(last=False)
            return record

        return keep

    def drop(self, token: str) -> None:
        self._drops += 1
        self._records.pop(self._digest(token), None)

    def _digest(self, token: str) -> bytes:
        return blake2b(token.encode("ascii"), key=self._key, digest_size=32).digest()


def unknown_device_token() -> ApiError:
    """The answer to a send token that is wrong or of a removed device."""
    return ApiError("unauthorized", "This URL's token is not valid, or its device was removed.")


def _unauthorized(header: str) -> ApiError:
    return ApiError("unauthorized", f"The header {header} is missing or not valid.", field=header)


def _only(headers: Headers, name: str) -> str:
    values = headers.getlist(name)
    if len(values) > 1:
        raise ApiError(
            "ambiguous_credentials", f"The header {name} stands there twice.", field=name
        )
    return values[0] if values else ""


def _plain_digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogateescape")).digest()
