"""Proxy: through what a device reaches WhatsApp, as its partner wrote it. Pure.

How it is dialled is connector.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import unquote, urlsplit

MAX_URL_LEN: Final = 1024
# Letters of both credentials. Source: RFC 1929 section 2, one byte of length each.
MAX_CREDENTIAL_LEN: Final = 255

_NAME: Final = re.compile("[0-9A-Za-z_.-]{1,253}")
_IPV6: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_VISIBLE: Final = re.compile("[!-~]+")


class ProxyScheme(StrEnum):
    """How a proxy is spoken to."""

    HTTP = "http"  # CONNECT
    SOCKS5 = "socks5"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy and who we are to it.

    Attributes:
        host: a name, which we resolve, or a numeric address, without brackets.
        user: visible ASCII; None: it asks for none. password: None with it.
    """

    scheme: ProxyScheme
    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """What may be shown: the URL without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_proxy(url: str) -> Proxy:
    """Read `http://[user:password@]host:port` or `socks5://...`.

    Raises:
        ValueError: If it is anything else; the message says what is missing, never what was there.
    """
    try:
        if len(url) > MAX_URL_LEN or not _VISIBLE.fullmatch(url):
            raise ValueError
        parts = urlsplit(url)
        scheme, host, port = ProxyScheme(parts.scheme), parts.hostname, parts.port
    except ValueError:
        host = port = None
    # Bytes of a name and of an address never mix, so a bracket cannot hide one in the other.
    shape = _IPV6 if "[" in url.rpartition("@")[2] else _NAME
    if not host or not port or not shape.fullmatch(host):
        raise ValueError("must be http://[user:password@]host:port, or the same with socks5://")
    if parts.path or parts.query or parts.fragment:
        raise ValueError("must end behind the port")
    if parts.username is None and parts.password is None:
        return Proxy(scheme, host, port)
    user, password = _credential(parts.username), _credential(parts.password)
    if scheme is ProxyScheme.HTTP and ":" in user:
        raise ValueError("must not have a colon in the user name")  # RFC 7617 section 2
    return Proxy(scheme, host, port, user, password)


def _credential(text: str | None) -> str:
    plain = unquote(text or "")
    if len(plain) > MAX_CREDENTIAL_LEN or not _VISIBLE.fullmatch(plain):
        raise ValueError(
            "must have a user name and a password of visible ASCII, at most"
            f" {MAX_CREDENTIAL_LEN} characters each; write @, / and : in them as %40, %2F and %3A"
        )
    return plain
