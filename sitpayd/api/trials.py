"""ProxyTrials: a proxy is tried before it is stored.

A trial is a tunnel to WhatsApp's own host and port, and not a byte into it. It goes where the
device would go, under the same rules for addresses (connector.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from sitpayd.actors.connector import (
    ProxyRefusedError,
    ProxyUnreachableError,
    Route,
    is_out_of_files,
    open_stream,
)
from sitpayd.actors.proxies import parse_proxy
from sitpayd.api.errors import ApiError
from sitpayd.log import get_logger
from sitpayd.settings import Settings
from sitpayd.storage.records import DeviceRecord

log = get_logger()

# How long a trial may take in all; a device would wait somewhat longer.
TRIAL_S: Final = 10.0
# Each holds a socket, and may find out what is reachable from here.
MAX_TRIALS: Final = 16
MAX_TRIALS_OF_PARTNER: Final = 2


class ProxyTrials:
    """Tries proxies, few at a time.

    Attributes:
        changing: held by who stores a device's proxy and then tells its actor: what is dialled must
            be what was stored last.
    """

    def __init__(self, settings: Settings) -> None:
        self.changing = trio.Lock()
        self._url = settings.whatsapp_url
        self._allow_private = settings.allow_private_proxies
        self._running: Counter[int] = Counter()

    async def run(self, partner_id: int, proxy: str) -> None:
        """Try a proxy.

        Raises:
            ApiError: If it does not lead to WhatsApp, or too many trials are running.
        """
        route = Route(self._url, parse_proxy(proxy), self._allow_private)
        with self._place(partner_id):
            try:
                with trio.fail_after(TRIAL_S):
                    stream = await open_stream(route)
            except ProxyRefusedError as error:
                log.info("proxy.refused", detail=str(error))
                raise ApiError(
                    "proxy_refused", "The proxy does not let us through to WhatsApp.", field="proxy"
                ) from None
            except (ProxyUnreachableError, trio.TooSlowError) as error:
                log.info("proxy.unreachable", detail=str(error))
                raise ApiError(
                    "proxy_unreachable",
                    "The proxy was not reached at a public address in time.",
                    field="proxy",
                ) from None
            except OSError as error:
                if not is_out_of_files(error):
                    raise
                raise ApiError("overloaded", "Too much is going on.", retry_after_s=10) from None
            await trio.aclose_forcefully(stream)

    @contextmanager
    def _place(self, partner_id: int) -> Iterator[None]:
        if self._running[partner_id] >= MAX_TRIALS_OF_PARTNER:
            raise ApiError(
                "too_many_requests", "Other proxies of yours are being tried.", retry_after_s=5
            )
        if self._running.total() >= MAX_TRIALS:
            raise ApiError("overloaded", "Too much is going on.", retry_after_s=5)
        self._running[partner_id] += 1
        try:
            yield
        finally:
            self._running[partner_id] -= 1
            if not self._running[partner_id]:
                del self._running[partner_id]


def shown_proxy(device: DeviceRecord) -> str | None:
    """The device's proxy without credentials, for answers."""
    return device.proxy and parse_proxy(device.proxy).address
