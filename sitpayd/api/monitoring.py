"""Monitoring: the page of metrics, for whoever holds the admin key.

What is only known by looking is looked at here, once for each page: the status board, and the
number of messages that wait, for which one reader of the database is asked within a bound.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import trio
from quart import Response, request

from sitpayd.actors.phase import Phase
from sitpayd.api.services import Services
from sitpayd.errors import StorageError
from sitpayd.metrics import CONTENT_TYPE
from sitpayd.storage import outbox

# Messages; more of them are told as so many. Counting takes some 10 ms of a reader's thread.
MAX_COUNTED: Final = 100_000
COUNTED_WITHIN_S: Final = 2.0


async def metrics(api: Services) -> Response:
    """GET /metrics: in the text format of Prometheus."""
    api.guard.scraper(request.headers)
    rows = await _open_rows(api)
    # A status that no device has is told as 0, so that an alert sees it begin.
    devices = Counter({phase.value: 0 for phase in Phase})
    devices.update(api.board.counts())
    tasks = trio.lowlevel.current_statistics().tasks_living
    page = api.metrics.page(devices, rows, api.board.watchers, tasks)
    return Response(page, content_type=CONTENT_TYPE)


async def _open_rows(api: Services) -> dict[str, int] | None:
    """Count the messages that wait; None: the database does not say, which /readyz tells."""
    with trio.move_on_after(COUNTED_WITHIN_S):
        try:
            return await api.database.read(outbox.open_rows, MAX_COUNTED)
        except StorageError:
            return None
    return None
