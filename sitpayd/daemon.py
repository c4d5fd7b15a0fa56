"""The daemon: builds the supervision tree and wires everything.

The database is outermost, so that whatever ends can still commit. Any exception that escapes ends
the process; systemd starts it again. SIGTERM and SIGINT stop it in order: no new requests, what is
in flight is answered, the devices' sockets are closed.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import trio

from sitpayd import clock, files, systemd
from sitpayd.actors.dials import DialBucket
from sitpayd.actors.downloads import Media
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.pacing import PacingLimits
from sitpayd.actors.registry import DeviceRegistry
from sitpayd.actors.resolver import resolving
from sitpayd.actors.revision import RevisionWatch
from sitpayd.actors.status import StatusBoard, stored_status
from sitpayd.actors.supervisor import DeviceSupervisor
from sitpayd.actors.world import World
from sitpayd.api.app import create_app
from sitpayd.api.server import serve
from sitpayd.errors import StorageBusyError, StorageFullError
from sitpayd.log import get_logger
from sitpayd.metrics import Metrics
from sitpayd.revision_source import look_up
from sitpayd.settings import Settings, load_secret
from sitpayd.storage import devices, inbox, outbox, retries
from sitpayd.storage.database import Database, open_database
from sitpayd.storage.records import utc_now
from sitpayd.storage.vault import Vault
from sitpayd.timekeeping import Timekeeper, take_over
from sitpayd.whatsapp.noise import WHATSAPP_ROOT_KEY

KEYGEN_THREADS: Final = 1
EXPIRY_INTERVAL_S: Final = 60.0
# A removed or logged-out device's keys are dropped after this time, logged out at WhatsApp or not.
KEEP_KEYS: Final = timedelta(hours=24)
KEEP_TEXTS: Final = timedelta(days=7)
# How long the server may keep a message for a device that is away, as far as is known.
KEEP_CIPHERTEXTS: Final = timedelta(days=30)
# A message that could not be read for so long is not sent again by anybody.
KEEP_REQUESTS: Final = timedelta(days=14)
WATCHDOG_INTERVAL_S: Final = 10.0
# The API drains itself in less; whatever hangs is cut, so that the process is gone within 20 s.
STOP_WITHIN_S: Final = 15.0
# Container objects, net, before the youngest generation is searched for cycles, then generations.
# The default 700 costs a busy daemon up to a tenth of its time; each reconnect leaves some hundred
# behind, so the oldest generation must have its turn, too.
GC_THRESHOLDS: Final = (10_000, 10, 10)
# Seconds between two looks at how late the event loop is; no stall that matters falls between.
LAG_INTERVAL_S: Final = 0.25
# An event loop that comes round so late is told: every device and every request waited for it.
STALL_S: Final = 1.0
# Devices that others see online go offline before they are gone, if that does not take long.
LEAVE_WITHIN_S: Final = 2.0
# A heartbeat older than this means that the event loop or the supervisor is stuck.
FRESH_S: Final = 5.0

_log = get_logger()


async def run_daemon(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: If a setting cannot be honoured, for example because the port is taken.
        StorageError: If the database cannot be opened.
    """
    files.raise_limit()
    media_host = urlsplit(settings.media_url).hostname or ""
    async with resolving([settings.whatsapp_host, media_host]):
        await _run(settings)


async def _run(settings: Settings) -> None:
    vault, metrics = Vault(load_secret(settings)), Metrics()
    async with open_database(settings.database_url, vault, metrics=metrics) as database:
        registry, board, outcomes = DeviceRegistry(), StatusBoard(), Outcomes()
        source = settings.revision_source
        revision = RevisionWatch(
            look_up=None if source is None else partial(look_up, source), metrics=metrics
        )
        await revision.restore(database)
        world = World(
            database=database,
            board=board,
            outcomes=outcomes,
            url=settings.whatsapp_url,
            root_key=settings.whatsapp_root_key or WHATSAPP_ROOT_KEY,
            limits=_limits(settings),
            bucket=DialBucket(),
            allow_private_proxies=settings.allow_private_proxies,
            noise_resume=settings.noise_resume,
            media=_media(settings),
            keygen=trio.CapacityLimiter(KEYGEN_THREADS),
            metrics=metrics,
            revision=revision,
        )
        supervisor = DeviceSupervisor(registry, world)
        app = create_app(registry, database, board, outcomes, settings, metrics)
        stopping = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.run)
            await take_over(database)
            nursery.start_soon(Timekeeper(database, registry).run)
            nursery.start_soon(_expire, database, registry, outcomes)
            nursery.start_soon(_watch_loop, metrics)
            nursery.start_soon(revision.run, database, registry, board)
            records = await database.read(devices.devices_to_run)
            _tell_of_files(len(records))
            for record in records:
                if record.desired != "removed":
                    # Seen from the first moment on, though thousands take their time to start.
                    board.publish(stored_status(record))
            # In the background: the API serves meanwhile.
            nursery.start_soon(registry.start, [registry.expect(record) for record in records])
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                nursery.start_soon(_stop_on_signal, signals, stopping)
                async with trio.open_nursery() as front:
                    await front.start(partial(serve, app, settings, shutdown=stopping))
                    _spare_collector()
                    systemd.notify("READY=1")
                    nursery.start_soon(_feed_watchdog, supervisor)
                    _log.info(
                        "daemon.ready", listen=settings.listen, whatsapp=settings.whatsapp_url
                    )
                    await stopping.wait()
                    systemd.notify("STOPPING=1")
                    front.cancel_scope.deadline = trio.current_time() + STOP_WITHIN_S
            with trio.move_on_after(LEAVE_WITHIN_S):
                await registry.take_leave()
            nursery.cancel_scope.cancel()
    _log.info("daemon.stopped")


def _tell_of_files(device_count: int) -> None:
    """Say at the start what would otherwise show with the last device."""
    needed, limit = files.needed_for(device_count), files.limit()
    if limit < needed:
        _log.error(
            "daemon.too_few_files",
            devices=device_count,
            limit=limit,
            advice=f"give the process at least {needed}: LimitNOFILE in the unit, or ulimit -n",
        )


def _spare_collector() -> None:
    """Let the garbage collector look at less, and more seldom."""
    gc.collect()
    # Modules, tables, routes: they stay as long as the process.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _limits(settings: Settings) -> PacingLimits | None:
    if not settings.is_paced:
        return None
    return PacingLimits(
        first_contacts_per_day=settings.first_contacts_per_day,
        number_checks_per_hour=settings.number_checks_per_hour,
    )


def _media(settings: Settings) -> Media:
    # Not where temporary files go: that may be memory.
    spool = settings.state_dir if settings.state_dir.is_dir() else None
    return Media(settings.media_url, public_only=settings.is_whatsapp, spool=spool)


async def _stop_on_signal(signals: AsyncIterator[int], stopping: trio.Event) -> None:
    async for number in signals:
        _log.info("daemon.stopping", signal=signal.Signals(number).name)
        stopping.set()


async def _feed_watchdog(supervisor: DeviceSupervisor) -> None:
    while True:
        if trio.current_time() - supervisor.beat_at < FRESH_S:
            systemd.notify("WATCHDOG=1")
        await trio.sleep(WATCHDOG_INTERVAL_S)


async def _watch_loop(metrics: Metrics) -> None:
    """Note how late the event loop comes round."""
    while True:
        due = trio.current_time() + LAG_INTERVAL_S
        await trio.sleep_until(due)
        lag = trio.current_time() - due
        metrics.lag(lag)
        if lag > STALL_S:
            _log.warning("loop.stalled", seconds=round(lag, 1))


async def _expire(database: Database, registry: DeviceRegistry, outcomes: Outcomes) -> None:
    """End what has lived too long: rows, texts, keys of devices that are gone."""
    while True:
        await trio.sleep(EXPIRY_INTERVAL_S)
        try:
            await _expire_once(database, outcomes, utc_now())
        except (StorageFullError, StorageBusyError) as error:
            # Both pass without a restart; the next round takes what is left.
            _log.warning("expiry.failed", error=str(error))


async def _expire_once(database: Database, outcomes: Outcomes, now: datetime) -> None:
    while settled := await database.write(outbox.expire, now):
        for row in settled:
            outcomes.announce(row.message_id, row.state, row.reason)
    # What is kept for a time was stored with the time of then, and is not moved by a jump.
    now -= timedelta(seconds=clock.CLOCK.skipped_s)
    purged = False
    # In portions, each a short operation of the one writer, until nothing is left.
    while await database.write(outbox.forget_texts, now - KEEP_TEXTS):
        purged = True
    while await database.write(inbox.forget_texts, now - KEEP_TEXTS):
        purged = True
    while await database.write(inbox.forget_ciphertexts, now - KEEP_CIPHERTEXTS):
        purged = True
    while await database.write(retries.forget_requests, now - KEEP_REQUESTS):
        purged = True
    for record in await database.read(devices.devices_to_forget, now - KEEP_KEYS):
        await database.write(devices.forget_keys, record.id)
        purged = True
        _log.info("device.keys_forgotten", session_id=record.session_id)
    if purged:
        await database.truncate_log()
