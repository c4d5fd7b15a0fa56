"""What a status and its reason mean for people: cause, what follows by itself, advice. Pure, data.

One table for page, terminal and API. Every reason the code can give has its row here
(tests/actors/test_explanations.py looks for them in the code). What each word promises to partners
stands in docs/partners.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sitpayd.actors.phase import Phase


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a device is as it is, as sentences.

    Attributes:
        cause: what happened.
        next: what happens by itself, and when.
        advice: what a person does; None: nothing.
    """

    cause: str
    next: str
    advice: str | None


@dataclass(frozen=True, slots=True)
class StatusRow:
    """What is said of a status where its reason says no more.

    Attributes:
        next: `{when}` stands for the end of the status, or for `some_time` where that is not known.
    """

    cause: str
    next: str
    advice: str | None = None
    some_time: str = "later"


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """What is said of a reason.

    Attributes:
        next: None: what its status says.
        advice: what a person does where the device does not come back by itself; None: what its
            status says.
        if_it_stays: what a person does about a device that goes on waiting; None: nothing.
    """

    cause: str
    next: str | None = None
    advice: str | None = None
    if_it_stays: str | None = None


_LINK: Final = "Ask for a QR code and scan it with the phone: WhatsApp, Settings, Linked devices."
_REPORT: Final = "Report it with the device's history: this version of sitpayd may need a change."
_PHONE: Final = "The account's owner opens WhatsApp on the phone and does what it asks."
_WHATSAPP: Final = "If many devices wait, the trouble is WhatsApp's; nothing helps but time."
_NETWORK: Final = "If many devices wait, look at this machine's network, DNS and firewall."

STATUSES: Final[dict[str, StatusRow]] = {
    Phase.UNPAIRED: StatusRow(
        "The device is not linked to a phone.", "Nothing, until somebody asks for a QR code.", _LINK
    ),
    Phase.PAIRING: StatusRow(
        "The device is being linked.",
        "The code changes by itself; after some three minutes without a scan it is taken away.",
        "Scan the code with the phone: WhatsApp, Settings, Linked devices.",
    ),
    Phase.PAIRED: StatusRow(
        "The phone has just linked the device.", "It logs in within seconds, as a linked device."
    ),
    Phase.CONNECTING: StatusRow(
        "The device dials WhatsApp or logs in.",
        "It is connected within seconds, or waits and dials again.",
    ),
    Phase.CONNECTED: StatusRow(
        "The device is ready, and WhatsApp's server was heard a moment ago.",
        "Every 20 to 30 s a ping tests the connection; a silent one is closed and dialled anew.",
    ),
    Phase.WAITING: StatusRow(
        "The connection was lost.",
        "It dials again {when}.",
        some_time="by itself, after at most five minutes",
    ),
    Phase.PAUSED: StatusRow(
        "Somebody has paused the device.",
        "It does not dial; messages that wait go on waiting.",
        "Resume it when it is to run again.",
    ),
    Phase.LOGGED_OUT: StatusRow(
        "WhatsApp has ended the device's login.", "It never dials by itself.", _LINK
    ),
    Phase.REPLACED: StatusRow(
        "Another program has connected with this device's keys.",
        "It never dials by itself: the two would throw each other out.",
        "Find the second copy, such as a restored database or a cloned machine, and stop it. Then"
        " resume this device; if the copy cannot be found, remove it and link a new one.",
    ),
    Phase.BANNED: StatusRow(
        "WhatsApp has banned the account.",
        "It never dials by itself. The ban is said to end {when}.",
        "The account's owner looks at the phone. Look at what was sent before you resume it.",
        some_time="at a time that WhatsApp does not tell",
    ),
    Phase.OUTDATED: StatusRow(
        "WhatsApp takes this version of the client no more.",
        "It does not dial with this version.",
        "Install a newer sitpayd.",
    ),
    Phase.ACTION_REQUIRED: StatusRow(
        "WhatsApp wants something first.", "It never dials by itself.", _PHONE
    ),
    Phase.FAULTED: StatusRow(
        "The device's program part crashed five times in a row.",
        "It is started again {when}.",
        "This is a bug of sitpayd: report the traceback in the log, event device.crashed. Other"
        " devices are not concerned.",
        some_time="by itself, after at most 15 minutes",
    ),
}

REASONS: Final[dict[str, ReasonRow]] = {
    # --- the connection ---
    "network": ReasonRow(
        "The network failed: DNS, TCP or TLS, or a write took too long.", if_it_stays=_NETWORK
    ),
    "dns": ReasonRow(
        "The name of WhatsApp's server could not be looked up.",
        if_it_stays="Look at this machine's DNS.",
    ),
    "too_many_files": ReasonRow(
        "This machine gives sitpayd no more file descriptors.",
        if_it_stays="Raise LimitNOFILE in the unit; /proc/<pid>/limits tells what holds.",
    ),
    "proxy_unreachable": ReasonRow(
        "The device's proxy cannot be reached; a device with a proxy never goes without.",
        advice="Mend the proxy or give the device another one, then resume it.",
        if_it_stays="Mend the proxy or give the device another one.",
    ),
    "proxy_refused": ReasonRow(
        "The device's proxy refused the connection; a device with a proxy never goes without.",
        advice="Look at the proxy's name, password and rules, then resume the device.",
        if_it_stays="Look at the proxy's name, password and rules.",
    ),
    "connection_closed": ReasonRow("WhatsApp's server closed the connection."),
    "no_answer": ReasonRow(
        "Nothing was heard from WhatsApp's server for too long, so the connection was closed.",
        if_it_stays=_NETWORK,
    ),
    "no_proof_of_life": ReasonRow(
        "The connection is open, but WhatsApp's server was not heard for more than 70 s.",
        "It is shown as connected again as soon as the server is heard, or dials anew.",
        if_it_stays="Restart the device; if it happens again, report it with the device's history.",
    ),
    "http_refused": ReasonRow(
        "The WebSocket was refused with an HTTP error: by a proxy or firewall between, or since"
        " WhatsApp refuses this address.",
        advice="Look at what stands between this machine and WhatsApp, then resume the device.",
        if_it_stays="Look at what stands between this machine and WhatsApp.",
    ),
    "certificate": ReasonRow(
        "The server could not prove that it is WhatsApp.",
        advice="Look at this machine's clock and at who sits between it and WhatsApp; check that"
        " whatsapp_root_key fits whatsapp_url. Then resume the device.",
    ),
    "protocol_error": ReasonRow(
        "Frames or encryption came out of step.", advice=_REPORT, if_it_stays=_REPORT
    ),
    "not_resumed": ReasonRow(
        "The server did not let the device resume the handshake of an earlier connection.",
        "It shakes hands in full.",
        if_it_stays="Set noise_resume to false.",
    ),
    "storage": ReasonRow(
        "The database did not take what had to be stored.",
        if_it_stays="Look at the disk: /readyz tells whether the database takes writes.",
    ),
    # --- what WhatsApp's server said ---
    "restart_required": ReasonRow(
        "WhatsApp's server asked for a new connection, as after linking."
    ),
    "server_error": ReasonRow("WhatsApp's server failed.", if_it_stays=_WHATSAPP),
    "server_unavailable": ReasonRow("WhatsApp's server is not available.", if_it_stays=_WHATSAPP),
    "server_restart": ReasonRow("WhatsApp's server restarts.", if_it_stays=_WHATSAPP),
    "too_many_connections": ReasonRow(
        "WhatsApp's server asks for fewer connections; the device waits for at least five minutes."
    ),
    "unknown_failure": ReasonRow(
        "WhatsApp refused the login with a code that sitpayd does not know.",
        advice=_REPORT,
        if_it_stays=_REPORT,
    ),
    "stream_error": ReasonRow(
        "WhatsApp's server ended the connection with an error.", advice=_REPORT, if_it_stays=_REPORT
    ),
    "bad_stanza": ReasonRow(
        "WhatsApp's server could not read what was sent to it.", advice=_REPORT, if_it_stays=_REPORT
    ),
    "unanswered_stanza": ReasonRow(
        "WhatsApp's server missed an acknowledgement.", advice=_REPORT, if_it_stays=_REPORT
    ),
    "unanswered_ping": ReasonRow(
        "WhatsApp's server missed the answer to a ping.", advice=_REPORT, if_it_stays=_REPORT
    ),
    "unanswered_iq": ReasonRow(
        "WhatsApp's server missed the answer to a question.", advice=_REPORT, if_it_stays=_REPORT
    ),
    "unlinked_perhaps": ReasonRow(
        "WhatsApp's server ended the connection in a way seen with removed devices.",
        "It logs in once more {when}, and that decides.",
    ),
    # --- the login ---
    "logged_out": ReasonRow(
        "The login was ended: the account's owner removed the device on the phone, or WhatsApp did."
    ),
    "device_removed": ReasonRow("The device was removed from the account's linked devices."),
    "removed": ReasonRow("The device was removed here."),
    "account_locked": ReasonRow(
        "WhatsApp has locked the account.",
        advice="The account's owner looks at the phone; then link the device again.",
    ),
    "logging_out": ReasonRow(
        "Somebody here wants the device logged out at WhatsApp.",
        "It logs out on this connection or, if it is away, on the next one.",
    ),
    "logged_out_here": ReasonRow("Somebody here has logged the device out."),
    "restored": ReasonRow(
        "The database was restored from a backup, and keys from a backup must not be used again."
    ),
    "replaced": ReasonRow("Another program has connected with this device's keys."),
    "temporary_ban": ReasonRow("WhatsApp has banned the account for a time."),
    "banned": ReasonRow("WhatsApp has banned the account."),
    "ban_strangers": ReasonRow(
        "WhatsApp has banned the account for a time: too many messages went to people who do not"
        " have it among their contacts."
    ),
    "ban_blocked": ReasonRow(
        "WhatsApp has banned the account for a time: too many people have blocked it."
    ),
    "ban_groups": ReasonRow(
        "WhatsApp has banned the account for a time: it made too many groups, or added too many"
        " people to groups."
    ),
    "ban_same_message": ReasonRow(
        "WhatsApp has banned the account for a time: the same message went to too many people."
    ),
    "ban_broadcast": ReasonRow(
        "WhatsApp has banned the account for a time: too many messages went to broadcast lists."
    ),
    "client_outdated": ReasonRow("WhatsApp takes this version of the client no more."),
    "bad_request": ReasonRow("WhatsApp found the login malformed.", advice=_REPORT),
    "bad_user_agent": ReasonRow("WhatsApp refuses the client's description.", advice=_REPORT),
    "client_unknown": ReasonRow("WhatsApp does not know this client.", advice=_REPORT),
    "experimental": ReasonRow("WhatsApp refuses the login as experimental.", advice=_REPORT),
    "not_found": ReasonRow("WhatsApp does not find what the login names.", advice=_REPORT),
    "cat_expired": ReasonRow("WhatsApp refuses the login's token as expired.", advice=_REPORT),
    "cat_invalid": ReasonRow("WhatsApp refuses the login's token.", advice=_REPORT),
    "no_multi_device": ReasonRow(
        "The phone's WhatsApp is too old for linked devices.",
        advice="Update WhatsApp on the phone, then ask for a code again.",
    ),
    # --- linking ---
    "passkey": ReasonRow(
        "WhatsApp asks for the account's passkey, which a linked device cannot give.",
        "Nothing, until somebody asks for a QR code again.",
        advice="Turn the passkey off in WhatsApp on the phone, then ask for a code again.",
    ),
    "qr_expired": ReasonRow("Nobody scanned the codes of the round."),
    "canceled": ReasonRow("Somebody has called the linking off."),
    "proxy_changed": ReasonRow("The device's proxy was changed while codes were shown."),
    "code_unconfirmed": ReasonRow(
        "The code was typed, but the phone never confirmed the link.",
        advice="Ask for a code again.",
    ),
    "code_refused": ReasonRow(
        "WhatsApp gave no pairing code for this number.",
        advice="Check the number with its country code, or link by QR code.",
    ),
    "code_rate_limited": ReasonRow(
        "WhatsApp gives this number no further pairing code for now.",
        advice="Wait some minutes, or link by QR code.",
    ),
    "other_number": ReasonRow(
        "Another number than the first was about to be linked, so the link was refused.",
        "Nothing, until somebody asks for a code again.",
        advice="Link the device's own number, or allow another one when asking for a code.",
    ),
    "pairing_refused": ReasonRow(
        "The phone's proofs did not verify, so the link was refused.",
        advice="Ask for a code again; if it repeats, somebody may sit between.",
    ),
    # --- this program ---
    "crashing": ReasonRow("The device's program part crashed five times in a row."),
}

_DAY: Final = timedelta(days=1)
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_MANY: Final = 2  # of the larger unit, from which on it is used


def explain(status: str, reason: str | None, until: datetime | None, now: datetime) -> Explanation:
    """Explain a status.

    Args:
        until: UTC; when it is expected to end, if that is known.
        now: UTC.
    """
    row = STATUSES[status]
    why = REASONS.get(reason) if reason is not None else None
    when = row.some_time if until is None else _when(until, now)
    if why is None:
        return Explanation(row.cause, row.next.format(when=when), row.advice)
    if status in (Phase.WAITING, Phase.CONNECTING):
        advice = why.if_it_stays
    else:
        advice = why.advice or row.advice
    return Explanation(why.cause, (why.next or row.next).format(when=when), advice)


def _when(until: datetime, now: datetime) -> str:
    left = until - now
    if left <= timedelta(0):
        return "any moment"
    form = "%H:%M:%S" if left < _DAY else "%Y-%m-%d %H:%M"
    return f"at {until:{form}} UTC, in {_duration(left)}"


def _duration(left: timedelta) -> str:
    seconds = max(1, round(left.total_seconds()))
    for unit_s, unit in ((24 * _HOUR_S, "days"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= _MANY * unit_s:
            return f"{seconds // unit_s} {unit}"
    return f"{seconds} s"
