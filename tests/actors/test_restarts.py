from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sitpayd.actors.restarts import (
    CALM_AFTER_S,
    ESCALATION_MIN_DEVICES,
    ESCALATION_WINDOW_S,
    MAX_DELAY_S,
    Escalate,
    Restart,
    RestartPolicy,
)


def restarted(policy: RestartPolicy, now: float, *, name: str = "wa_1") -> Restart:
    verdict = policy.crashed(name, 1000, now)
    assert isinstance(verdict, Restart)
    return verdict


def test_delay_doubles_with_each_crash_in_a_row() -> None:
    policy, now, delays = RestartPolicy(), 0.0, []
    for _ in range(12):
        verdict = restarted(policy, now)
        delays.append(verdict.delay_s)
        now += verdict.delay_s
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, MAX_DELAY_S, MAX_DELAY_S]


def test_device_counts_as_faulted_from_the_fifth_crash_in_a_row() -> None:
    policy = RestartPolicy()
    verdicts = [restarted(policy, float(second)) for second in range(7)]
    assert [verdict.faulted for verdict in verdicts] == [False] * 4 + [True] * 3
    assert [verdict.alarm for verdict in verdicts] == [False] * 4 + [True] + [False] * 2


def test_calm_life_starts_the_count_anew() -> None:
    policy = RestartPolicy()
    for _ in range(3):
        restarted(policy, 0.0)
    # The third crash delayed the restart by four seconds.
    assert restarted(policy, 4.0 + CALM_AFTER_S).delay_s == 1.0


def test_life_that_was_not_calm_long_enough_counts_on() -> None:
    policy = RestartPolicy()
    for _ in range(3):
        restarted(policy, 0.0)
    assert restarted(policy, 4.0 + CALM_AFTER_S - 0.1).delay_s == 8.0


def test_forgotten_device_starts_anew() -> None:
    policy = RestartPolicy()
    restarted(policy, 0.0)
    policy.forget("wa_1")
    policy.forget("never seen")
    assert restarted(policy, 1.0).delay_s == 1.0


def test_one_device_never_escalates() -> None:
    policy = RestartPolicy()
    for second in range(1000):
        assert isinstance(policy.crashed("wa_1", 1, float(second)), Restart)


def test_five_devices_within_a_minute_escalate() -> None:
    policy = RestartPolicy()
    for number in range(ESCALATION_MIN_DEVICES - 1):
        restarted(policy, 10.0 * number, name=f"wa_{number}")
    assert policy.crashed("wa_9", 25, ESCALATION_WINDOW_S) == Escalate(5)


def test_five_devices_over_more_than_a_minute_do_not_escalate() -> None:
    policy = RestartPolicy()
    for number in range(ESCALATION_MIN_DEVICES - 1):
        restarted(policy, 10.0 * number, name=f"wa_{number}")
    assert isinstance(policy.crashed("wa_9", 25, ESCALATION_WINDOW_S + 0.1), Restart)


def test_large_daemon_escalates_at_a_fifth_of_its_devices() -> None:
    policy = RestartPolicy()
    for number in range(199):
        restarted(policy, 0.0, name=f"wa_{number}")
    assert policy.crashed("wa_199", 1000, 0.0) == Escalate(200)


@given(st.lists(st.floats(0.0, 1200.0) | st.just(0.0), max_size=80))
def test_no_minute_holds_more_than_six_restarts_of_a_device(lives: list[float]) -> None:
    policy, now, restarts = RestartPolicy(), 0.0, list[float]()
    for life in lives:
        now += life
        now += restarted(policy, now).delay_s
        restarts.append(now)
    for early, late in zip(restarts, restarts[6:], strict=False):
        assert late - early > 60.0


# --- poison ---


def poisons(*rows: int | None) -> list[int | None]:
    """What is set aside after crashes with these rows on top."""
    policy = RestartPolicy()
    found = []
    for second, row in enumerate(rows):
        verdict = policy.crashed("wa_1", 1000, float(second), row)
        assert isinstance(verdict, Restart)
        found.append(verdict.poison)
    return found


def test_row_on_top_at_three_crashes_in_a_row_is_poison() -> None:
    """F-13: the row is set aside, not the device."""
    assert poisons(7, 7, 7) == [None, None, 7]


def test_another_row_between_starts_the_count_anew() -> None:
    assert poisons(7, 7, 8, 7, 7, 7) == [None, None, None, None, None, 7]


def test_crash_that_is_no_rows_fault_starts_the_count_anew() -> None:
    assert poisons(7, 7, None, 7, 7, 7) == [None, None, None, None, None, 7]


def test_crashes_without_a_row_have_no_poison() -> None:
    assert poisons(*[None] * 10) == [None] * 10


def test_row_that_could_not_be_set_aside_is_named_again() -> None:
    assert poisons(7, 7, 7, 7, 7, 7) == [None, None, 7, None, None, 7]


def test_rows_of_other_devices_do_not_count() -> None:
    policy = RestartPolicy()
    for name in ("wa_1", "wa_2", "wa_3", "wa_4"):
        verdict = policy.crashed(name, 1000, 0.0, 7)
        assert isinstance(verdict, Restart)
        assert verdict.poison is None


def test_forgotten_device_has_no_poison() -> None:
    policy = RestartPolicy()
    for _ in range(2):
        policy.crashed("wa_1", 1000, 0.0, 7)
    policy.forget("wa_1")
    verdict = policy.crashed("wa_1", 1000, 0.0, 7)
    assert isinstance(verdict, Restart)
    assert verdict.poison is None
