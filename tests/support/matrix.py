"""What works with whom: rows, columns and reasons of docs/interop.md, and the mark of its tests.

A test that proves a feature says so: `@proves(Feature.TYPING)` at the bundled simulator,
`@proves(Feature.TYPING, SENDS, RECEIVES)` with a client of others. Which client that is, is said
once by `by(Client.BAILEYS)`: of a module, a class or a parameter of a fixture. `proofs.py` collects
the marks, and writes the page behind a run in which these tests passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import pytest


class Client(Enum):
    """Who else speaks the protocol."""

    BAILEYS = "Baileys"
    WHATSMEOW = "whatsmeow"
    RUST = "whatsapp-rust"


class Role(Enum):
    """What the client does in it."""

    SENDS = "sends"
    RECEIVES = "receives"


SENDS: Final = Role.SENDS
RECEIVES: Final = Role.RECEIVES


@dataclass(frozen=True, slots=True)
class Side:
    """A column: the bundled simulator, or a client in a role."""

    client: Client | None = None
    role: Role | None = None

    def __str__(self) -> str:
        if self.client is None or self.role is None:
            return "simulator"
        return f"{self.client.value} {self.role.value}"


SIMULATOR: Final = Side()
SIDES: Final = (SIMULATOR, *(Side(client, role) for client in Client for role in Role))


class Feature(Enum):
    """A row: where it stands, and what it is called."""

    LINK_BY_QR = "Linking and login", "linking by QR code"
    LINK_BY_CODE = "Linking and login", "linking by pairing code"
    SIGNATURES = "Linking and login", "account, device and certificate signatures are verified"
    RESTART = "Linking and login", "stream restart (515)"
    RELOGIN = "Linking and login", "login again after a restart or a crash"
    CUT_SOCKET = "Linking and login", "coming back after a cut socket"
    RESUME = "Linking and login", "Noise resume (IK)"
    FALLBACK = "Linking and login", "full handshake where the server does not resume (XXfallback)"
    ROUTING = "Linking and login", "edge routing"
    ENDINGS = "Linking and login", "unlinked, replaced or banned: it rests"
    LOGOUT = "Linking and login", "logout by oneself"

    TEXTS = "Messages", "texts by LID"
    BY_NUMBER = "Messages", "texts by phone number"
    RECEIPTS = "Messages", "delivery receipts"
    FAN_OUT = "Messages", "fan-out to all devices, the own ones included"
    BACKLOG = "Messages", "what came while one was away"
    BATCHES = "Messages", "a backlog handed out in batches"
    KILLED = "Messages", "answered only when it is stored: a kill loses nothing"
    TWICE = "Messages", "delivered twice, shown once"

    FIRST_MESSAGES = "Signal sessions", "first messages by prekeys"
    OUT_OF_ORDER = "Signal sessions", "out-of-order and skipped messages"
    BOTH_BEGIN = "Signal sessions", "simultaneous initiation, archived states"
    UNREADABLE = "Signal sessions", "what could not be read is asked for and sent once more"
    NEW_PHONE = "Signal sessions", "a new phone: changed identity"
    PREKEYS_LOW = "Signal sessions", "few prekeys left: more are uploaded"
    DIGEST = "Signal sessions", "a server without our keys is given them (digest)"

    MIGRATION = "Addressing", "number and LID turn out to be one person"
    REFUSED_LID = "Addressing", "somebody who takes nothing by LID"
    DEVICE_CHANGES = "Addressing", "devices that are linked and removed are followed"
    MISSED = "Addressing", "devices that were missed (phash) get the same message"
    HOSTED = "Addressing", "hosted devices"
    CHECK = "Addressing", "is this number on WhatsApp"

    NOTIFICATIONS = "Session", "every notification is answered"
    DIRTY = "Session", "what is dirty is cleaned"
    SERVER_PING = "Session", "pings of the server"
    TOKENS = "Session", "privacy tokens given and carried"
    CSTOKENS = "Session", "cstokens"
    LIMITS = "Session", "locks and quotas of new chats"
    PRESENCE = "Session", "online and offline"
    TYPING = "Session", "typing and recording"
    READ_MARKS = "Session", "read marks"

    HISTORY = "From the phone", "history: names, LIDs and tokens are taken from it"
    APP_STATE_KEYS = "From the phone", "app state keys and the list of LIDs"
    OWN_MESSAGES = "From the phone", "messages of the account's other devices"
    TOLD_AGAIN = "From the phone", "the phone is asked for what its sender does not send again"

    @property
    def group(self) -> str:
        """Under which heading it stands."""
        return self.value[0]

    @property
    def title(self) -> str:
        """What it is called."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why cells are empty: each of the features, on each of the sides."""

    text: str
    features: tuple[Feature, ...]
    sides: tuple[Side, ...]


def _sides(*roles: Role, of: Iterable[Client] = Client) -> tuple[Side, ...]:
    return tuple(Side(client, role) for client in of for role in roles)


_BAILEYS: Final = (Client.BAILEYS,)
_WHATSMEOW: Final = (Client.WHATSMEOW,)
_OTHERS_THAN_RUST: Final = (Client.BAILEYS, Client.WHATSMEOW)

# In the order of the rows they are for.
REASONS: Final = (
    Reason(
        "Baileys does not look at the result of its signature check: its silence proves nothing.",
        (Feature.SIGNATURES,),
        _sides(RECEIVES, of=_BAILEYS),
    ),
    Reason(
        "Only a server says this, and no client is one.",
        (Feature.RESTART, Feature.ENDINGS),
        _sides(SENDS),
    ),
    Reason(
        "Baileys and whatsmeow shake hands in full each time.",
        (Feature.RESUME, Feature.FALLBACK),
        _sides(SENDS, RECEIVES, of=_OTHERS_THAN_RUST),
    ),
    Reason(
        "whatsmeow keeps no routing bytes.",
        (Feature.ROUTING,),
        _sides(SENDS, RECEIVES, of=_WHATSMEOW),
    ),
    Reason(
        "Only the server and the own phone hear of a logout.",
        (Feature.LOGOUT,),
        _sides(RECEIVES),
    ),
    Reason(
        "whatsmeow asks for no batch, and Baileys for the first one alone.",
        (Feature.BATCHES,),
        _sides(SENDS, RECEIVES, of=_OTHERS_THAN_RUST),
    ),
    Reason(
        "It is the daemon that is killed here. What it sends then, the simulator has to take once.",
        (Feature.KILLED,),
        _sides(RECEIVES),
    ),
    Reason(
        "whatsmeow uploads none within ten minutes of the last upload: it asks the server first.",
        (Feature.PREKEYS_LOW,),
        _sides(SENDS, RECEIVES, of=_WHATSMEOW),
    ),
    Reason(
        "whatsmeow does not ask for it. whatsapp-rust does; the server holds no more keys then.",
        (Feature.DIGEST,),
        _sides(SENDS, RECEIVES, of=(Client.WHATSMEOW, Client.RUST)),
    ),
    Reason(
        "Which of our devices a client knows of, and when, is its own affair: what it sends to "
        "fewer reaches fewer.",
        (Feature.DEVICE_CHANGES, Feature.MISSED),
        _sides(SENDS),
    ),
    Reason(
        "No client can be a hosted device: those are in WhatsApp's cloud.",
        (Feature.HOSTED,),
        _sides(SENDS, RECEIVES),
    ),
    Reason(
        "The question goes to the server; whom it is about does not hear of it.",
        (Feature.CHECK,),
        _sides(SENDS),
    ),
    Reason(
        "whatsmeow cleans nothing.",
        (Feature.DIRTY,),
        _sides(SENDS, RECEIVES, of=_WHATSMEOW),
    ),
    Reason(
        "Baileys and whatsmeow do not answer it.",
        (Feature.SERVER_PING,),
        _sides(SENDS, RECEIVES, of=_OTHERS_THAN_RUST),
    ),
    Reason(
        "It is between an account and the server: nobody else is told.",
        (Feature.CSTOKENS, Feature.LIMITS),
        _sides(SENDS, RECEIVES),
    ),
    Reason(
        "Only a phone tells this, and the phones are the simulator's.",
        (Feature.HISTORY, Feature.APP_STATE_KEYS),
        _sides(SENDS),
    ),
    Reason(
        "Only the own phone is asked, and the phones are the simulator's.",
        (Feature.TOLD_AGAIN,),
        _sides(SENDS, RECEIVES),
    ),
)


def proves(feature: Feature, *roles: Role, by_phone: bool = False) -> pytest.MarkDecorator:
    """Say that a test proves a feature: with a client in these roles, else at the simulator.

    Args:
        by_phone: whether the client has to do with a phone of the simulator in it, although the
            daemon runs.
    """
    return pytest.mark.proves(feature, *roles, by_phone=by_phone)


def by(client: Client) -> pytest.MarkDecorator:
    """Say with which client a test, a class, a module or a parameter is about."""
    return pytest.mark.client(client)


@dataclass(frozen=True, slots=True)
class Proof:
    """A test proves a feature on a side.

    Attributes:
        test: the function, as `peers/test_x.py::test_y`.
        has_daemon: whether our side is the daemon; else it is the simulator alone.
    """

    feature: Feature
    side: Side
    test: str
    has_daemon: bool


def faults(proofs: Iterable[Proof], reasons: Sequence[Reason] = REASONS) -> list[str]:
    """What is wrong with the matrix: cells with neither proof nor reason, or with too much."""
    proved = {(proof.feature, proof.side) for proof in proofs}
    reasoned = [
        (feature, side)
        for reason in reasons
        for feature in reason.features
        for side in reason.sides
    ]
    wrong = []
    for feature in Feature:
        for side in SIDES:
            times = reasoned.count((feature, side))
            cell = f"{feature.name}, {side}"
            if (feature, side) in proved:
                if times:
                    wrong.append(f"{cell}: there is a reason although it is proved")
            elif times != 1:
                wrong.append(
                    f"{cell}: neither proved nor excused" if not times else f"{cell}: two reasons"
                )
    return wrong


_HEAD = """\
# What works with whom

The tests that prove it wrote this page: `make matrix` runs them, and writes it when all passed.

The first column is the daemon against the bundled simulator, which is the same protocol code in
another role; so in the others stand clients that others wrote, unmodified. In *sends* the client
speaks or acts, and our side has to understand it; in *receives* our side does, and the client has
to. Versions are pinned in `tests/peers`. whatsapp-rust takes minutes to build, so its tests run by
`make peers-rust` and `make matrix` alone.

✓: proved with the daemon. ○: proved with the simulator alone, which is server and phones there.
A number: why there is no proof. What WhatsApp's real servers do is in no cell: no test talks to
them.
"""


def page(proofs: Iterable[Proof], reasons: Sequence[Reason] = REASONS) -> str:
    """The page, as Markdown."""
    known = sorted(proofs, key=lambda proof: (proof.test, SIDES.index(proof.side)))
    lines = [_HEAD.rstrip()]
    group = ""
    for feature in Feature:
        if feature.group != group:
            group = feature.group
            lines += [
                f"\n## {group}\n",
                f"| | {' | '.join(str(side) for side in SIDES)} |",
                f"|---|{'---|' * len(SIDES)}",
            ]
        cells = [_cell(feature, side, known, reasons) for side in SIDES]
        lines.append(f"| {feature.title} | {' | '.join(cells)} |")
    lines.append("\n## Why cells are empty\n")
    lines += [f"{number}. {reason.text}" for number, reason in enumerate(reasons, 1)]
    lines.append("\n## Which tests prove it\n")
    for feature in Feature:
        lines.append(f"- {feature.title}")
        tests = dict.fromkeys(proof.test for proof in known if proof.feature == feature)
        for test in tests:
            sides = [p.side for p in known if (p.feature, p.test) == (feature, test)]
            lines.append(f"  - `{test}`: {', '.join(str(side) for side in dict.fromkeys(sides))}")
    return "\n".join(lines) + "\n"


def _cell(feature: Feature, side: Side, proofs: Iterable[Proof], reasons: Sequence[Reason]) -> str:
    mine = [proof for proof in proofs if (proof.feature, proof.side) == (feature, side)]
    if mine:
        return "✓" if any(proof.has_daemon for proof in mine) else "○"
    numbers = [
        str(number)
        for number, reason in enumerate(reasons, 1)
        if feature in reason.features and side in reason.sides
    ]
    return " ".join(numbers)
