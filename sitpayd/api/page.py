"""The admin page: a few files that hold nothing, served to anybody.

Who opens it signs in on the page; every request it makes then carries the admin key. The files are
in `page/`, beside this one: no build makes them, and nothing in them comes from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib import resources
from pathlib import PurePath
from types import MappingProxyType
from typing import Final

from quart import Response, request

from sitpayd.api.errors import ApiError
from sitpayd.api.services import Services

_INDEX: Final = "index.html"
_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# T-29: no script and no style but these files, and no text can ever become markup. `connect-src`
# covers the feed too. Source: W3C Content Security Policy Level 3; W3C Trusted Types.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src data: 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS: Final[Mapping[str, str]] = {
    # Asked for each time, answered 304 mostly: a page never talks to another version's daemon.
    "cache-control": "no-cache",
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    type: str
    etag: str


async def index(api: Services) -> Response:
    """GET /admin/: the page."""
    return _answer(_INDEX)


async def lead(api: Services) -> Response:
    """GET /admin: leads whoever leaves the slash out to the page."""
    return Response(b"", HTTPStatus.PERMANENT_REDIRECT, {"location": "admin/"})


async def asset(api: Services, name: str) -> Response:
    """GET /admin/page/:name: what the page is made of."""
    return _answer(name)


def _answer(name: str) -> Response:
    file = _files().get(name)
    if file is None:
        raise ApiError("not_found", "There is nothing here.")
    if request.if_none_match.contains(file.etag):
        response = Response(b"", HTTPStatus.NOT_MODIFIED)
        del response.headers["content-type"]
    else:
        response = Response(file.body, content_type=file.type)
    response.headers.update(_HEADERS)
    response.set_etag(file.etag)
    return response


@cache
def _files() -> Mapping[str, _File]:
    """Read the files, once: they are part of the program."""
    found = {}
    for entry in resources.files("sitpayd.api").joinpath("page").iterdir():
        body = entry.read_bytes()
        kind = _TYPES[PurePath(entry.name).suffix]
        found[entry.name] = _File(body, kind, sha256(body).hexdigest()[:32])
    return MappingProxyType(found)
