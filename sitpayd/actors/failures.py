"""What each way of losing a connection means: data, one row per outcome. Pure.

`verdict_of_*` turn what came over the wire, or the loss of the socket, into one Verdict; the
machine turns the Verdict into a phase.

Source: whatsmeow connectionevents.go, types/events/events.go; Baileys lib/Types DisconnectReason;
public issue threads of both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from sitpayd.actors.events import LossKind, Lost
from sitpayd.actors.phase import Phase
from sitpayd.whatsapp.stanzas.failure import ConnectFailure, StreamError
from sitpayd.whatsapp.stanzas.iq import IqError


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about a lost connection.

    Attributes:
        phase: WAITING backs off and dials again; a resting phase never dials.
        reason: the public word.
        min_delay_s: seconds to wait at least before the next dial.
        tries: at this many of the same reason in a row the device goes to `then`; None: never.
        then: the phase after that.
        at_once: dial without backoff, once.
        until_s: seconds after which a ban is said to end, where the server said so.
        shared: what is wrong is nothing of this device alone: others are away for it, too.
    """

    phase: Phase
    reason: str
    min_delay_s: float = 0.0
    tries: int | None = None
    then: Phase = Phase.ACTION_REQUIRED
    at_once: bool = False
    until_s: int | None = None
    shared: bool = False


# A ban that is said to last longer has no end worth naming; seconds, a hundred years.
MAX_UNTIL_S: Final = 100 * 365 * 86_400

# After the end of a ban a person may resume the device only so much later; seconds.
BAN_GRACE_S: Final = 3600.0

_WAITING: Final = Phase.WAITING
_PERSON: Final = Phase.ACTION_REQUIRED

CONNECT_FAILURES: Final[dict[int, Verdict]] = {
    400: Verdict(_PERSON, "bad_request"),
    401: Verdict(Phase.LOGGED_OUT, "logged_out"),
    402: Verdict(Phase.BANNED, "temporary_ban"),
    403: Verdict(Phase.LOGGED_OUT, "account_locked"),
    405: Verdict(Phase.OUTDATED, "client_outdated"),
    406: Verdict(Phase.BANNED, "banned"),
    409: Verdict(_PERSON, "bad_user_agent"),
    411: Verdict(_PERSON, "no_multi_device"),
    413: Verdict(_PERSON, "cat_expired"),
    414: Verdict(_PERSON, "cat_invalid"),
    415: Verdict(_PERSON, "not_found"),
    418: Verdict(_PERSON, "client_unknown"),
    500: Verdict(_WAITING, "server_error"),
    501: Verdict(_PERSON, "experimental"),
    503: Verdict(_WAITING, "server_unavailable"),
}
# Why a temporary ban was given, where the server says so: stands in the place of `temporary_ban`.
# Source: whatsmeow types/events/events.go, TempBanReason.
BAN_REASONS: Final[dict[int, str]] = {
    101: "ban_strangers",
    102: "ban_blocked",
    103: "ban_groups",
    104: "ban_same_message",
    106: "ban_broadcast",
}
UNKNOWN_FAILURE: Final = Verdict(_WAITING, "unknown_failure", tries=2)

STREAM_ERRORS: Final[dict[int, Verdict]] = {
    401: Verdict(Phase.LOGGED_OUT, "logged_out"),
    409: Verdict(Phase.REPLACED, "replaced"),
    429: Verdict(_WAITING, "too_many_connections", min_delay_s=300.0),
    440: Verdict(Phase.REPLACED, "replaced"),
    503: Verdict(_WAITING, "server_restart", shared=True),
    515: Verdict(_WAITING, "restart_required", at_once=True),
    # Seen with unlinked devices: one more login decides, a second 516 is taken for it.
    516: Verdict(_WAITING, "unlinked_perhaps", tries=2, then=Phase.LOGGED_OUT),
}
STREAM_CONFLICTS: Final[dict[str, Verdict]] = {
    "device_removed": Verdict(Phase.LOGGED_OUT, "device_removed"),
    "replaced": Verdict(Phase.REPLACED, "replaced"),
}
# The child of a stream error that names no code.
STREAM_CHILDREN: Final[dict[str, Verdict]] = {
    "ack": Verdict(_WAITING, "unanswered_stanza", tries=5),
    "ping": Verdict(_WAITING, "unanswered_ping", tries=5),
    "iq": Verdict(_WAITING, "unanswered_iq", tries=5),
    "xml-not-well-formed": Verdict(_WAITING, "bad_stanza", tries=5),
}
OTHER_STREAM_ERROR: Final = Verdict(_WAITING, "stream_error", tries=5)

# Of a pairing code that the server does not give. How long it refuses is unverified: issue threads
# of Baileys say to wait for minutes.
CODE_RATE_LIMITED: Final = Verdict(Phase.UNPAIRED, "code_rate_limited", until_s=300)
CODE_REFUSED: Final = Verdict(Phase.UNPAIRED, "code_refused")
_RATE_OVERLIMIT: Final = 429

LOSSES: Final[dict[LossKind, Verdict]] = {
    LossKind.NETWORK: Verdict(_WAITING, "network", shared=True),
    LossKind.DNS: Verdict(_WAITING, "dns", shared=True),
    LossKind.FILES: Verdict(_WAITING, "too_many_files"),
    LossKind.PROXY_UNREACHABLE: Verdict(_WAITING, "proxy_unreachable"),
    LossKind.PROXY_REFUSED: Verdict(_WAITING, "proxy_refused"),
    LossKind.CLOSED: Verdict(_WAITING, "connection_closed", shared=True),
    LossKind.SILENT: Verdict(_WAITING, "no_answer", shared=True),
    LossKind.HTTP: Verdict(_WAITING, "http_refused", tries=3),
    LossKind.CERTIFICATE: Verdict(_PERSON, "certificate"),
    LossKind.PROTOCOL: Verdict(_WAITING, "protocol_error", tries=5),
    # The next dial is a full handshake, which decides.
    LossKind.RESUMPTION: Verdict(_WAITING, "not_resumed", at_once=True),
}


def verdict_of_code(error: IqError | None) -> Verdict:
    """Judge a refused pairing code; None: no answer that could be read."""
    if error is not None and error.code == _RATE_OVERLIMIT:
        return replace(CODE_RATE_LIMITED, until_s=error.backoff or CODE_RATE_LIMITED.until_s)
    return CODE_REFUSED


def verdict_of_failure(failure: ConnectFailure) -> Verdict:
    """Judge a `<failure>` that came instead of `<success>`."""
    verdict = CONNECT_FAILURES.get(failure.code, UNKNOWN_FAILURE)
    if verdict.phase is not Phase.BANNED:
        return verdict
    until_s = None if failure.expire_s is None else min(failure.expire_s, MAX_UNTIL_S)
    reason = BAN_REASONS.get(failure.ban_code or 0, verdict.reason)
    return replace(verdict, reason=reason, until_s=until_s)


def verdict_of_stream_error(error: StreamError) -> Verdict:
    """Judge a `<stream:error>`; what its child says weighs more than its code."""
    if error.conflict is not None and error.conflict in STREAM_CONFLICTS:
        return STREAM_CONFLICTS[error.conflict]
    if error.code is not None and error.code in STREAM_ERRORS:
        return STREAM_ERRORS[error.code]
    if error.child is not None and error.child in STREAM_CHILDREN:
        return STREAM_CHILDREN[error.child]
    return OTHER_STREAM_ERROR


def verdict_of_loss(loss: Lost) -> Verdict:
    """Judge a socket that could not be opened or was lost."""
    return LOSSES[loss.kind]
