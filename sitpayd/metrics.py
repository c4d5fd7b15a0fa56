"""Metrics: what the daemon counts, in the form that Prometheus reads.

Counted is by outcome, reason, route or state, never by device, partner or number: so the page stays
short with ten thousand devices, and nothing secret can stand on it. What changes all the time is
counted where it happens; what somebody knows anyway is handed in when the page is made. Like the
log this lies under all floors. What each name means for an operator stands in docs/operators.md.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
# Seconds. A paced message waits on purpose, so the last ones are long.
SEND_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# Seconds. Beyond the last one systemd's watchdog is near.
LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0)
# A request that no route took, and one whose caller left before its answer.
NO_ROUTE: Final = "none"
NO_CODE: Final = "none"

# When each counter was made, as a series of its own: nobody asks, and it doubles the page.
disable_created_metrics()  # type: ignore[no-untyped-call]  # its annotation is missing


class Metrics:
    """Everything that is counted in one daemon.

    Attributes:
        registry: holds these metrics and no others.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._devices = self._gauge("sitpayd_devices", "Devices by status.", "status")
        self._dials = self._counter(
            "sitpayd_dials", "Dials to WhatsApp by what became of them.", "outcome"
        )
        self._reconnects = self._counter(
            "sitpayd_reconnects", "Dials of linked devices by what made them necessary.", "reason"
        )
        self._handshakes = self._counter(
            "sitpayd_handshakes",
            "Handshakes of logins, where they may be resumed, by how they went.",
            "pattern",
        )
        self._send_seconds = self._histogram(
            "sitpayd_send_seconds",
            "Seconds from accepting a message to WhatsApp's acknowledgement.",
            SEND_BUCKETS,
        )
        self._number_checks = self._counter(
            "sitpayd_number_checks", "Numbers that WhatsApp was asked about for a check."
        )
        self._outbox_rows = self._gauge(
            "sitpayd_outbox_rows", "Messages that are not settled yet, by state.", "state"
        )
        self._lag_seconds = self._histogram(
            "sitpayd_event_loop_lag_seconds",
            "Seconds by which the event loop is late.",
            LAG_BUCKETS,
        )
        self._commits = self._counter("sitpayd_commits", "Transactions committed.")
        self._operations = self._counter(
            "sitpayd_commit_operations", "Operations in the transactions committed."
        )
        self._stray_receipts = self._counter(
            "sitpayd_stray_receipts",
            "Receipts for messages that nobody was sent who could send them.",
        )
        self._subscribers = self._gauge("sitpayd_feed_subscribers", "Readers of the admin feed.")
        self._tasks = self._gauge("sitpayd_tasks", "Tasks of the event loop.")
        self._outdated = self._gauge(
            "sitpayd_client_outdated",
            "1: WhatsApp refuses the client's revision, and no newer one is known.",
        )
        self._requests = self._counter(
            "sitpayd_http_requests", "HTTP requests by route and status code.", "route", "code"
        )
        self._max_files = self._gauge("process_max_fds", "File descriptors this process may open.")
        # Looking a child up in the library costs several times what counting costs.
        self._dials_by: dict[str, Counter] = {}
        self._reconnects_by: dict[str, Counter] = {}
        self._requests_by: dict[tuple[str | None, int | None], Counter] = {}

    def commit(self, operations: int) -> None:
        """Count a transaction with so many operations. Any thread may."""
        self._commits.inc()
        self._operations.inc(operations)

    def dial(self, outcome: str) -> None:
        """Count a dial; outcome: opened, abandoned, or the kind of its loss."""
        child = self._dials_by.get(outcome)
        if child is None:
            child = self._dials_by[outcome] = self._dials.labels(outcome)
        child.inc()

    def reconnect(self, reason: str) -> None:
        """Count the dial of a linked device; reason: of the machine's words."""
        child = self._reconnects_by.get(reason)
        if child is None:
            child = self._reconnects_by[reason] = self._reconnects.labels(reason)
        child.inc()

    def handshake(self, pattern: str) -> None:
        """Count a complete handshake; pattern: one of three."""
        self._handshakes.labels(pattern).inc()

    def sent(self, seconds: float) -> None:
        """Note how long an acknowledged message took."""
        # The wall clock may have been set back meanwhile.
        self._send_seconds.observe(max(seconds, 0.0))

    def number_checks(self, count: int) -> None:
        """Count numbers that WhatsApp is asked about."""
        self._number_checks.inc(count)

    def stray_receipts(self, count: int) -> None:
        """Count receipts that fit no message."""
        self._stray_receipts.inc(count)

    def outdated(self, alarm: bool) -> None:
        """Note whether WhatsApp refuses what the fleet announces."""
        self._outdated.set(alarm)

    def lag(self, seconds: float) -> None:
        """Note how late the event loop was."""
        self._lag_seconds.observe(seconds)

    def request(self, route: str | None, code: int | None) -> None:
        """Count a request.

        Args:
            route: the rule that matched; None: none did. Never a path: that has no bound.
            code: None: the caller left first.
        """
        child = self._requests_by.get((route, code))
        if child is None:
            names = (route or NO_ROUTE, NO_CODE if code is None else str(code))
            child = self._requests_by[route, code] = self._requests.labels(*names)
        child.inc()

    def page(
        self,
        devices: Mapping[str, int],
        outbox: Mapping[str, int] | None,
        subscribers: int,
        tasks: int = 0,
    ) -> bytes:
        """Make the page.

        Args:
            devices: how many are in each status.
            outbox: how many messages are in each open state; None: unknown, and then not told.
            subscribers: how many read the feed.
            tasks: how many live.
        """
        _set(self._devices, devices)
        _set(self._outbox_rows, outbox or {})
        self._subscribers.set(subscribers)
        self._tasks.set(tasks)
        self._max_files.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)


def _set(gauge: Gauge, values: Mapping[str, int]) -> None:
    # What is not told any more must not stand there for ever.
    gauge.clear()
    for label, value in values.items():
        gauge.labels(label).set(value)
