"""The admin feed: every device over a WebSocket, first all of them, then each change.

It can hold no secret, since the status board holds none. What is told next, and when a reader is
too slow, is decided in actors/changes.py; here it is written, by one task for each reader. A change
is encoded once for all readers, and a snapshot goes out in parts: ten thousand devices in one
message would hold up the event loop, and many clients take no message as long as that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import trio
from quart import websocket

from sitpayd.actors.changes import Change, Subscription
from sitpayd.actors.status import REMOVED
from sitpayd.api.auth import ADMIN_KEY_HEADER
from sitpayd.api.errors import ApiError
from sitpayd.api.filters import DeviceFilter
from sitpayd.api.services import Services
from sitpayd.api.views import encode
from sitpayd.storage.records import utc_now

# Close codes. Source: RFC 6455 section 7.4.1 and the IANA registry it founded.
GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013

CLOSE_WITHIN_S: Final = 2.0
HEARTBEAT_S: Final = 10.0
# How often it is looked whether a reader has to be given up.
LOOK_EACH_S: Final = 1.0
# A reader that cannot keep up with what happens gets a fresh snapshot no more often than this.
RESYNC_EACH_S: Final = 2.0
# Devices in one message: some 80 KiB and five milliseconds.
PART_LEN: Final = 250
MAX_READERS: Final = 256

_PARAMETERS: Final = frozenset({"after", "partner", "status", "ticket"})


async def feed(api: Services) -> None:
    """GET /admin/feed?after=&partner=&status=, with the admin key's header or ?ticket=."""
    _admit(api)
    wanted = DeviceFilter.parse(websocket.args)
    if api.board.watchers >= MAX_READERS:
        raise ApiError("overloaded", "Too many read the feed.", retry_after_s=HEARTBEAT_S)
    code = GOING_AWAY

    def concerns(change: Change, coalesced: bool) -> bool:
        return _word(wanted, change, coalesced) is not None

    # Before the handshake: the bound counts who is let in, not who is served already.
    with api.board.subscribe(concerns, websocket.args.get("after")) as subscription:
        # First: the framework shakes hands only when asked to.
        await websocket.accept()
        async with trio.open_nursery() as nursery:

            def end(with_code: int) -> None:
                nonlocal code
                code = with_code
                nursery.cancel_scope.cancel()

            async def watch() -> None:
                while True:
                    await trio.sleep(LOOK_EACH_S)
                    if subscription.is_given_up(trio.current_time()):
                        end(TRY_AGAIN_LATER)

            async def listen() -> None:
                await websocket.receive()
                # There is nothing to say here; whoever talks is not a reader of this feed.
                end(POLICY_VIOLATION)

            nursery.start_soon(_Telling(api, subscription, wanted).run)
            nursery.start_soon(watch)
            nursery.start_soon(listen)
            await api.drain.begun.wait()
            nursery.cancel_scope.cancel()
    with trio.move_on_after(CLOSE_WITHIN_S):
        await websocket.close(code)


class _Telling:
    """What one reader is told."""

    def __init__(self, api: Services, subscription: Subscription, wanted: DeviceFilter) -> None:
        self._api = api
        self._subscription = subscription
        self._wanted = wanted
        self._heartbeat_at = trio.current_time() + HEARTBEAT_S
        self._resync_at = -float("inf")

    async def run(self) -> None:
        """Tell, until cancelled."""
        if self._subscription.resumed:
            await self._say({"type": "resumed", "cursor": self._subscription.cursor})
        else:
            await self._snapshot()
        while True:
            batch = self._subscription.take()
            if batch is None:
                await self._resync()
            else:
                await self._changes(batch.changes, batch.coalesced)
            if trio.current_time() >= self._heartbeat_at:
                await self._heartbeat()
            if not self._subscription.is_behind:
                with trio.move_on_at(self._heartbeat_at):
                    await self._api.board.changes.news()

    async def _changes(self, changes: Sequence[Change], coalesced: bool) -> None:
        api = self._api
        await api.views.know_partners(change.device for change in changes)
        for change in changes:
            word = _word(self._wanted, change, coalesced)
            cursor = api.board.changes.cursor(change.seq)
            if word == "status":
                await websocket.send(api.views.news(change, cursor))
            elif word is not None:
                name = change.device.session_id
                await self._say(
                    {"type": word, "cursor": cursor, "seq": change.seq, "session_id": name}
                )

    async def _resync(self) -> None:
        await trio.sleep_until(self._resync_at + RESYNC_EACH_S)
        await self._say({"type": "resync"})
        await self._snapshot()
        self._resync_at = trio.current_time()

    async def _snapshot(self) -> None:
        """Tell all devices, part by part.

        A part is read when its turn comes and may be newer than the snapshot's number; the changes
        that are told after it lead to the same end. Its cursor comes with the last part: who
        resumed from an unfinished snapshot would never hear of the rest.
        """
        board, views, wanted = self._api.board, self._api.views, self._wanted
        seq, since = views.moment(board.changes.seq)
        if wanted.statuses:
            # What is shared may be of a second ago, and then not in these statuses.
            seq, since = board.changes.seq, math.inf
        self._subscription.restart(seq)
        counts = board.counts() if wanted.partner is None else board.count(wanted.partner)
        kind, after, more = "snapshot", "", True
        while more:
            page = board.page(after, PART_LEN)
            more = len(page) == PART_LEN
            after = page[-1].session_id if page else ""
            await views.know_partners(page)
            devices = [views.text(device, since) for device in page if wanted.takes(device)]
            if devices or kind == "snapshot" or not more:
                head = encode(
                    {
                        "type": kind,
                        "cursor": None if more else board.changes.cursor(seq),
                        "seq": seq,
                        "counts": counts,
                        "more": more,
                    }
                )
                await websocket.send(f'{head[:-1]},"devices":[{",".join(devices)}]}}')
                kind = "more"
            await trio.lowlevel.checkpoint()
        self._subscription.caught_up()

    async def _heartbeat(self) -> None:
        self._heartbeat_at = trio.current_time() + HEARTBEAT_S
        await self._say(
            {
                "type": "heartbeat",
                "cursor": self._subscription.cursor,
                "at": utc_now().isoformat(),
            }
        )

    async def _say(self, message: dict[str, object]) -> None:
        await websocket.send(encode(message))


def _word(wanted: DeviceFilter, change: Change, coalesced: bool) -> str | None:
    """The type of message a change becomes; None: it is nothing to this reader.

    A reader that was not told everything may think that a device still is what it asked for.
    """
    if not wanted.concerns(change.device.partner_id):
        return None
    was_wanted = coalesced or (change.before is not None and wanted.takes_status(change.before))
    if change.device.status == REMOVED:
        return "removed" if was_wanted else None
    if wanted.takes_status(change.device.status):
        return "status"
    return "left" if was_wanted else None


def _admit(api: Services) -> None:
    """Check the credential: the admin key's header, or a ticket, which only a page of ours has.

    Raises:
        ApiError: If there is none, or another page asks with its visitor's.
    """
    tickets = websocket.args.getlist("ticket")
    if tickets and (len(tickets) > 1 or ADMIN_KEY_HEADER in websocket.headers):
        raise ApiError("ambiguous_credentials", "There are two credentials.", field="ticket")
    if not tickets:
        api.guard.admin(websocket.headers)
    _check_origin(api, needed=bool(tickets))
    if tickets and not api.tickets.spend(tickets[0]):
        raise ApiError("unauthorized", "The ticket was used or is too old.", field="ticket")
    if not set(websocket.args) <= _PARAMETERS:
        # A key in an address stands in the logs of every proxy it passed.
        raise ApiError("invalid_query", "The address has a parameter that is not known here.")


def _check_origin(api: Services, *, needed: bool) -> None:
    """A page of another site must not open the feed with its visitor's network position."""
    origins = websocket.headers.getlist("origin")
    if not origins and not needed:
        return
    own = urlsplit(api.settings.base_url)
    if origins not in ([f"{own.scheme}://{own.netloc}"], [_tunnel_origin()]):
        raise ApiError("forbidden_origin", "This Origin may not read the feed.", field="origin")


def _tunnel_origin() -> str | None:
    """The origin of the page where an operator reached this machine itself, or through a tunnel."""
    host = websocket.headers.get("host", "")
    return f"http://{host}" if urlsplit(f"//{host}").hostname in _LOOPBACK else None


_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
