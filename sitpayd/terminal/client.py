"""Client: asks the daemon through its HTTP API, as an operator.

Nobody but the daemon opens the database, so the terminal asks it like everybody else. Where it is
and what the admin key is stands in the daemon's own configuration; the key never stands in an
argument, where other users of the machine would see it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit

import httpx

from sitpayd.errors import ConfigurationError, SitpaydError
from sitpayd.settings import Settings
from sitpayd.terminal.views import AnswerError, Json

ADMIN_KEY_HEADER: Final = "x-admin-key"
# The daemon answers from memory; a page of devices takes milliseconds.
WITHIN_S: Final = 10.0
PAGE: Final = 500


class UnreachableError(SitpaydError):
    """The daemon does not answer."""


class RefusedError(SitpaydError):
    """The daemon answered that it will not.

    Attributes:
        status: HTTP status.
        code: the error's code; "" where the answer is not sitpayd's.
    """

    def __init__(self, message: str, status: int, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Access:
    """Where the daemon is, and what opens its admin routes.

    Attributes:
        admin_key: None: none is configured here.
    """

    url: str
    admin_key: str | None = field(repr=False)

    @property
    def feed_url(self) -> str:
        """Where the feed is."""
        return "ws" + self.url.removeprefix("http") + "/admin/feed"


def access_of(settings: Settings, url: str | None) -> Access:
    """Find the daemon of a configuration.

    Args:
        url: where it is instead; None: where it listens.

    Raises:
        ConfigurationError: If the URL is none.
    """
    key = None if settings.admin_key is None else settings.admin_key.get_secret_value()
    return Access(_base(url) if url else _own(settings), key)


class DaemonClient:
    """A connection to the daemon. A context manager."""

    def __init__(self, access: Access, transport: httpx.BaseTransport | None = None) -> None:
        self.access = access
        headers = {} if access.admin_key is None else {ADMIN_KEY_HEADER: access.admin_key}
        # Not through a proxy of the environment: it would see the key.
        self._http = httpx.Client(
            base_url=access.url,
            headers=headers,
            timeout=WITHIN_S,
            trust_env=False,
            transport=transport,
        )

    def __enter__(self) -> DaemonClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def devices(self, query: Mapping[str, str]) -> Json:
        """Every device that the query asks for, page by page, and the counts of all.

        Raises:
            SitpaydError: As `get`.
        """
        found: list[object] = []
        after: object = ""
        while True:
            page = self.get("/admin/devices", {**query, "limit": str(PAGE), "after": str(after)})
            devices = page.get("devices")
            if not isinstance(devices, list):
                raise AnswerError("the daemon's answer has no devices")
            found += devices
            after = page.get("next")
            if after is None:
                return {"devices": found, "counts": page.get("counts", {})}

    def history(self, session_id: str) -> Json:
        """A device, its explanation and its events, newest first.

        Raises:
            SitpaydError: As `get`.
        """
        return self.get(f"/admin/devices/{quote(session_id, safe='')}/history")

    def operate(self, session_id: str, operation: str) -> Json:
        """Pause, resume, reconnect, restart or log out.

        Raises:
            SitpaydError: As `get`.
        """
        return self._ask("POST", f"/admin/devices/{quote(session_id, safe='')}/{operation}")

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Ask for JSON.

        Raises:
            UnreachableError: If nobody answers.
            RefusedError: If the answer is an error.
            ConfigurationError: If the admin key is missing or not the daemon's.
            AnswerError: If the answer is not of sitpayd.
        """
        return self._ask("GET", path, query)

    def text(self, path: str) -> str:
        """Ask for text.

        Raises:
            SitpaydError: As `get`.
        """
        return self._send("GET", path, None).text

    def _ask(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Json:
        answer = _json(self._send(method, path, query))
        if answer is None:
            raise AnswerError(f"{self.access.url} answers, but not as sitpayd")
        return answer

    def _send(self, method: str, path: str, query: Mapping[str, str] | None) -> httpx.Response:
        with _told(self.access.url):
            response = self._http.request(method, path, params=query)
        if response.is_success:
            return response
        told = _json(response) or {}
        code = told.get("code")
        if response.status_code == 401:
            raise ConfigurationError(
                f"the daemon at {self.access.url} does not take this admin key: it must be the"
                " daemon's own, in SITPAYD_ADMIN_KEY or the configuration file"
                if self.access.admin_key
                else "no admin key: set SITPAYD_ADMIN_KEY, or SITPAYD_CONFIG to the daemon's own"
                " configuration file"
            )
        raise RefusedError(
            str(told.get("message") or f"{self.access.url} answered {response.status_code}"),
            response.status_code,
            code if isinstance(code, str) else "",
        )


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Tell a failed connection in one line."""
    try:
        yield
    except httpx.TimeoutException:
        raise UnreachableError(f"the daemon at {url} does not answer in time") from None
    except httpx.TransportError as error:
        why = re.sub(r"^\[Errno -?[0-9]+\] ", "", str(error)) or type(error).__name__
        raise UnreachableError(f"the daemon at {url} cannot be reached: {why}") from None


def _json(response: httpx.Response) -> Json | None:
    try:
        answer = response.json()
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _base(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError("--url must look like http://127.0.0.1:8080")
    return url.rstrip("/")


def _own(settings: Settings) -> str:
    """Where the daemon of these settings listens; on every address means on this machine, too."""
    host = settings.host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
