"""What each way of losing a connection means: one row for each, played through the machine.

The rows stand here once more, apart from the code, so that a change of the table has to be meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from sitpayd.actors import failures
from sitpayd.actors.backoff import BASE_S, HEALTHY_AFTER_S
from sitpayd.actors.commands import AskRevision, Dial, HangUp, SaveRest, SettleLoggedOut
from sitpayd.actors.events import LossKind, Lost, Opened, Started, Tick
from sitpayd.actors.failures import MAX_UNTIL_S
from sitpayd.actors.messages import Deliver
from sitpayd.actors.phase import RESTING, Phase
from sitpayd.storage.records import Rest
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import failure
from sitpayd.whatsapp.stanzas.failure import ConnectFailure, StreamError
from tests.actors.builders import NOON, connected_play, opened_play, started, success
from tests.support.playbook import Playbook

LOGIN = Dial(registration=False)
WAITING, PERSON = Phase.WAITING, Phase.ACTION_REQUIRED
OPERATORS = Path(__file__).parents[2] / "docs" / "operators.md"


@dataclass(frozen=True)
class Row:
    """What comes, and what has to follow.

    Attributes:
        tries: how often in a row it may come until the device goes to `then`.
    """

    what: Node | Lost
    phase: Phase
    reason: str
    min_delay_s: float = 0.0
    tries: int | None = None
    then: Phase = PERSON
    at_once: bool = False
    until_s: int | None = None


def refusal(code: int, *, expire_s: int | None = None, ban_code: int | None = None) -> Node:
    return failure.failure(ConnectFailure(code, expire_s=expire_s, ban_code=ban_code))


def ended(
    code: int | None = None, *, conflict: str | None = None, child: str | None = None
) -> Node:
    return failure.stream_error(StreamError(code, conflict, child))


# In the place of `<success>`.
REFUSALS = {
    "400": Row(refusal(400), PERSON, "bad_request"),
    "401": Row(refusal(401), Phase.LOGGED_OUT, "logged_out"),
    "402": Row(refusal(402), Phase.BANNED, "temporary_ban"),
    "402 with an end": Row(
        refusal(402, expire_s=3600), Phase.BANNED, "temporary_ban", until_s=3600
    ),
    "402 for ever": Row(
        refusal(402, expire_s=2**40), Phase.BANNED, "temporary_ban", until_s=MAX_UNTIL_S
    ),
    "402, 101": Row(refusal(402, ban_code=101), Phase.BANNED, "ban_strangers"),
    "402, 102": Row(refusal(402, ban_code=102), Phase.BANNED, "ban_blocked"),
    "402, 103": Row(refusal(402, ban_code=103), Phase.BANNED, "ban_groups"),
    "402, 104": Row(refusal(402, ban_code=104), Phase.BANNED, "ban_same_message"),
    "402, 105": Row(refusal(402, ban_code=105), Phase.BANNED, "temporary_ban"),
    "402, 106": Row(
        refusal(402, ban_code=106, expire_s=60), Phase.BANNED, "ban_broadcast", until_s=60
    ),
    "403": Row(refusal(403), Phase.LOGGED_OUT, "account_locked"),
    "405": Row(refusal(405), Phase.OUTDATED, "client_outdated"),
    "406": Row(refusal(406), Phase.BANNED, "banned"),
    "409": Row(refusal(409), PERSON, "bad_user_agent"),
    "411": Row(refusal(411), PERSON, "no_multi_device"),
    "413": Row(refusal(413), PERSON, "cat_expired"),
    "414": Row(refusal(414), PERSON, "cat_invalid"),
    "415": Row(refusal(415), PERSON, "not_found"),
    "418": Row(refusal(418), PERSON, "client_unknown"),
    "500": Row(refusal(500), WAITING, "server_error"),
    "501": Row(refusal(501), PERSON, "experimental"),
    "503": Row(refusal(503), WAITING, "server_unavailable"),
    "another": Row(refusal(499), WAITING, "unknown_failure", tries=2),
    "none": Row(Node("failure"), WAITING, "unknown_failure", tries=2),
    "no number": Row(Node("failure", {"reason": "x"}), WAITING, "unknown_failure", tries=2),
}
# At any time.
STREAM_ERRORS = {
    "401": Row(ended(401), Phase.LOGGED_OUT, "logged_out"),
    "409": Row(ended(409), Phase.REPLACED, "replaced"),
    "429": Row(ended(429), WAITING, "too_many_connections", min_delay_s=300.0),
    "440": Row(ended(440), Phase.REPLACED, "replaced"),
    "500": Row(ended(500), WAITING, "stream_error", tries=5),
    "503": Row(ended(503), WAITING, "server_restart"),
    "515": Row(ended(515), WAITING, "restart_required", at_once=True),
    "516": Row(ended(516), WAITING, "unlinked_perhaps", tries=2, then=Phase.LOGGED_OUT),
    "another": Row(ended(599), WAITING, "stream_error", tries=5),
    "removed": Row(ended(401, conflict="device_removed"), Phase.LOGGED_OUT, "device_removed"),
    "removed, other code": Row(
        ended(503, conflict="device_removed"), Phase.LOGGED_OUT, "device_removed"
    ),
    "replaced": Row(ended(409, conflict="replaced"), Phase.REPLACED, "replaced"),
    "replaced, no code": Row(ended(conflict="replaced"), Phase.REPLACED, "replaced"),
    "another conflict": Row(ended(conflict="x"), WAITING, "stream_error", tries=5),
    "ack": Row(ended(child="ack"), WAITING, "unanswered_stanza", tries=5),
    "ping": Row(ended(child="ping"), WAITING, "unanswered_ping", tries=5),
    "iq": Row(ended(child="iq"), WAITING, "unanswered_iq", tries=5),
    "xml": Row(ended(child="xml-not-well-formed"), WAITING, "bad_stanza", tries=5),
    "another child": Row(ended(child="x"), WAITING, "stream_error", tries=5),
    "no child": Row(ended(), WAITING, "stream_error", tries=5),
    "end": Row(Node("xmlstreamend"), WAITING, "connection_closed"),
}
# Of the socket, of what stands before it, and of the handshake.
LOSSES = {
    LossKind.NETWORK: Row(Lost(LossKind.NETWORK, ""), WAITING, "network"),
    LossKind.DNS: Row(Lost(LossKind.DNS, ""), WAITING, "dns"),
    LossKind.FILES: Row(Lost(LossKind.FILES, ""), WAITING, "too_many_files"),
    LossKind.PROXY_UNREACHABLE: Row(
        Lost(LossKind.PROXY_UNREACHABLE, ""), WAITING, "proxy_unreachable"
    ),
    LossKind.PROXY_REFUSED: Row(Lost(LossKind.PROXY_REFUSED, ""), WAITING, "proxy_refused"),
    LossKind.CLOSED: Row(Lost(LossKind.CLOSED, ""), WAITING, "connection_closed"),
    LossKind.SILENT: Row(Lost(LossKind.SILENT, ""), WAITING, "no_answer"),
    LossKind.HTTP: Row(Lost(LossKind.HTTP, "HTTP 403"), WAITING, "http_refused", tries=3),
    LossKind.CERTIFICATE: Row(Lost(LossKind.CERTIFICATE, ""), PERSON, "certificate"),
    LossKind.PROTOCOL: Row(Lost(LossKind.PROTOCOL, ""), WAITING, "protocol_error", tries=5),
    LossKind.RESUMPTION: Row(Lost(LossKind.RESUMPTION, ""), WAITING, "not_resumed", at_once=True),
}
ALL = {
    **{f"failure {name}": row for name, row in REFUSALS.items()},
    **{f"stream {name}": row for name, row in STREAM_ERRORS.items()},
    **{f"loss {name}": row for name, row in LOSSES.items()},
}


def happens(play: Playbook, row: Row) -> Playbook:
    return play.on(row.what) if isinstance(row.what, Lost) else play.hears(row.what)


def before(row: Row) -> Playbook:
    """A device to which it may happen."""
    return opened_play() if row in REFUSALS.values() else connected_play()


def dialled_again(play: Playbook, row: Row) -> None:
    """Wait for the next dial, and come where it may happen once more."""
    play.tick().expects(LOGIN)
    play.on(Opened()).expects_nothing()
    if row in STREAM_ERRORS.values():
        play.hears(success()).said()


@pytest.mark.parametrize("name", ALL)
def test_loss_leads_where_its_row_says(name: str) -> None:
    row = ALL[name]
    play = happens(before(row), row)

    said = play.said()
    over = [] if isinstance(row.what, Lost) else [HangUp()]
    if row.at_once:
        assert said == [*over, LOGIN]
        play.stands(Phase.CONNECTING, row.reason)
    elif row.phase is WAITING:
        assert said == over
        play.stands(WAITING, row.reason)
        assert play.waits_s is not None
        assert row.min_delay_s <= play.waits_s <= row.min_delay_s + BASE_S
    else:
        settled = [SettleLoggedOut()] if row.phase is Phase.LOGGED_OUT else []
        asked = [AskRevision()] if row.phase is Phase.OUTDATED else []
        assert said == [*over, SaveRest(row.phase, row.reason, row.until_s), *settled, *asked]
        play.stands(row.phase, row.reason)
        assert play.machine.until_s == row.until_s


@pytest.mark.parametrize("name", [name for name, row in ALL.items() if row.phase in RESTING])
def test_device_that_rests_never_dials_by_itself(name: str) -> None:
    """F-08, F-09, F-10, F-11: neither time nor a message wakes it, in this life or the next."""
    play = happens(before(ALL[name]), ALL[name])
    play.said()
    assert play.waits_s is None
    play.later(30 * 86_400).on(Tick()).expects_nothing()
    play.on(Deliver())
    assert not any(isinstance(command, Dial) for command in play.said())

    again = Playbook().on(resting(ALL[name]))
    assert not any(isinstance(command, Dial) for command in again.said())
    again.stands(ALL[name].phase, ALL[name].reason)


def resting(row: Row) -> Started:
    return started(rest=Rest(row.phase.value, row.reason, NOON))


@pytest.mark.parametrize("name", [name for name, row in ALL.items() if row.tries is not None])
def test_what_happens_again_and_again_needs_a_person(name: str) -> None:
    row = ALL[name]
    assert row.tries is not None
    play = before(row)
    for _ in range(row.tries - 1):
        happens(play, row).said()
        play.stands(WAITING, row.reason)
        dialled_again(play, row)
    assert SaveRest(row.then, row.reason) in happens(play, row).said()
    play.stands(row.then, row.reason)


@pytest.mark.parametrize(
    "name", [n for n, row in ALL.items() if row.phase is WAITING and row.tries is None]
)
def test_what_passes_by_itself_is_never_given_up(name: str) -> None:
    row = ALL[name]
    play = before(row)
    for _ in range(20):
        happens(play, row).said()
        if play.machine.phase is WAITING:
            dialled_again(play, row)
        else:
            play.on(Opened()).expects_nothing()
            play.hears(success()).said()


@pytest.mark.parametrize(
    "name", [name for name, row in STREAM_ERRORS.items() if row.tries is not None]
)
def test_health_between_starts_the_count_anew(name: str) -> None:
    row = STREAM_ERRORS[name]
    play = before(row)
    for _ in range(6):
        happens(play.later(HEALTHY_AFTER_S + 1.0), row).said()
        play.stands(WAITING, row.reason)
        dialled_again(play, row)


# --- the rows are all there, here and in the guide ---


def verdicts() -> set[str]:
    found = set(failures.BAN_REASONS.values())
    for table in (
        failures.CONNECT_FAILURES,
        failures.STREAM_ERRORS,
        failures.STREAM_CONFLICTS,
        failures.STREAM_CHILDREN,
        failures.LOSSES,
    ):
        found |= {verdict.reason for verdict in table.values()}
    return found | {failures.UNKNOWN_FAILURE.reason, failures.OTHER_STREAM_ERROR.reason}


def test_every_verdict_has_a_row_here() -> None:
    assert {row.reason for row in ALL.values()} == verdicts()
    assert set(LOSSES) == set(failures.LOSSES) == set(LossKind)
    codes = {str(code) for code in failures.CONNECT_FAILURES}
    assert codes - {name.partition(",")[0] for name in REFUSALS} == set()
    assert {str(code) for code in failures.STREAM_ERRORS} - STREAM_ERRORS.keys() == set()


def told_statuses() -> dict[str, set[str]]:
    """Reason -> the statuses it stands with, as the guide has it."""
    (section,) = re.findall(r"(?ms)^## Reasons\n(.*?)^## ", OPERATORS.read_text("utf-8"))
    rows = re.findall(r"(?m)^\| (`[^|]+`) \| ([^|]*?) \|", section)
    return {
        reason: set(re.findall(r"`([^`]+)`", statuses))
        for reasons, statuses in rows
        for reason in re.findall(r"`([^`]+)`", reasons)
    }


@pytest.mark.parametrize("name", ALL)
def test_guide_tells_where_a_reason_leads(name: str) -> None:
    row = ALL[name]
    phase = Phase.CONNECTING if row.at_once else row.phase
    leads = {phase.value} | ({row.then.value} if row.tries is not None else set())
    assert leads <= told_statuses()[row.reason]
