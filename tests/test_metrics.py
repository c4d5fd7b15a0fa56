from __future__ import annotations

import math
import time

import pytest

from sitpayd.metrics import Metrics

# Of the event loop, for one page; a fifth of it where nothing traces and nobody else computes.
PAGE_WITHIN_S = 0.02


def page(metrics: Metrics) -> list[str]:
    """The samples of a page without devices."""
    text = metrics.page({}, None, 0).decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_commits_and_their_operations_are_counted() -> None:
    metrics = Metrics()
    metrics.commit(3)
    metrics.commit(1)

    assert {"sitpayd_commits_total 2.0", "sitpayd_commit_operations_total 4.0"} <= set(
        page(metrics)
    )


def test_requests_are_counted_by_rule_and_code() -> None:
    metrics = Metrics()
    for code in (200, 200, 409, None):
        metrics.request("/wa/<device_token>/send", code)
    metrics.request(None, 404)

    assert {line for line in page(metrics) if line.startswith("sitpayd_http")} == {
        'sitpayd_http_requests_total{code="200",route="/wa/<device_token>/send"} 2.0',
        'sitpayd_http_requests_total{code="409",route="/wa/<device_token>/send"} 1.0',
        'sitpayd_http_requests_total{code="none",route="/wa/<device_token>/send"} 1.0',
        'sitpayd_http_requests_total{code="404",route="none"} 1.0',
    }


def test_clock_that_was_set_back_makes_no_negative_latency() -> None:
    metrics = Metrics()
    metrics.sent(-3600.0)

    assert {"sitpayd_send_seconds_sum 0.0", "sitpayd_send_seconds_count 1.0"} <= set(page(metrics))


def test_state_that_is_unknown_now_is_not_told_as_it_was() -> None:
    metrics = Metrics()
    known = metrics.page({"connected": 1}, {"accepted": 5}, 2).decode()
    unknown = metrics.page({"waiting": 1}, None, 0).decode()

    assert 'sitpayd_outbox_rows{state="accepted"} 5.0' in known
    assert "sitpayd_outbox_rows{" not in unknown
    assert 'status="connected"' not in unknown


def test_two_daemons_of_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.dial("opened")

    assert 'sitpayd_dials_total{outcome="opened"} 1.0' in page(first)
    assert not any(line.startswith("sitpayd_dials") for line in page(second))


def test_page_of_a_busy_daemon_keeps_the_event_loop_for_milliseconds() -> None:
    metrics = Metrics()
    for number in range(40):
        metrics.reconnect(f"reason{number}")
        for code in (200, 401, 404, 409, 503):
            metrics.request(f"/route/{number}", code)
    statuses = {f"status{number}": 700 for number in range(14)}

    def seconds() -> float:
        began = time.perf_counter()
        metrics.page(statuses, {"accepted": 1, "armed": 1}, 1)
        return time.perf_counter() - began

    # The best of many: this machine has other things to do.
    assert min(seconds() for _ in range(50)) < PAGE_WITHIN_S


@pytest.mark.parametrize("lag", [0.0, 0.3, 60.0])
def test_every_lag_falls_into_one_bucket(lag: float) -> None:
    metrics = Metrics()
    metrics.lag(lag)
    told = [line for line in page(metrics) if line.startswith("sitpayd_event_loop_lag_seconds_b")]
    limits = [float(line.split('"')[1]) for line in told]
    counts = [float(line.split()[-1]) for line in told]

    assert limits[-1] == math.inf
    assert counts == [float(limit >= lag) for limit in limits]
