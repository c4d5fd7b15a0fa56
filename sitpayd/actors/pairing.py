"""PairingMachine: one round of linking after another, by QR code and by pairing code. Pure.

Theory of operation. The server sends a list of refs; each makes one QR code. The first of six is
shown for 60 s, every other for 20 s, so a round lasts 160 s. When they are used up the round is
over: a code that nobody scans must not be renewed for ever. Polling may begin three rounds an hour;
who asks for one in so many words gets more.

A pairing code belongs to a round as well, and to one phone number: it is asked for once the refs
have come, and is worth something for as long as they are. When it is typed, a new secret is agreed
on and the QR codes are void. The companion cannot tell a mistyped code from a right one; that the
phone's signature does not follow in time is the only sign.

A device belongs to the number it was linked to first: another one is refused unless it is wished.

Source: whatsmeow qrchan.go, pair-code.go.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from typing import Final, assert_never

from sitpayd.actors.commands import AgreeOnCode, Command, HideQr, MakeCode, ShowCode, ShowQr
from sitpayd.actors.events import CodeMade
from sitpayd.actors.messages import PairingWish
from sitpayd.actors.queries import Queries
from sitpayd.whatsapp.errors import PairingError
from sitpayd.whatsapp.keys import DeviceKeys
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import pairing_code
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity, qr_text
from sitpayd.whatsapp.stanzas.pairing_code import Agreed, CodeOffer, PrimaryHello

LONG_LIST: Final = 6
FIRST_OF_LONG_LIST_S: Final = 60.0
NEXT_REF_S: Final = 20.0
# Rounds that polling, and asking in so many words, may begin within an hour.
MAX_ROUNDS: Final = 3
MAX_FORCED_ROUNDS: Final = 10
ROUNDS_WINDOW_S: Final = 3600.0
# A code that could be typed for less time than this gets a round of its own.
CODE_WORTH_S: Final = 60.0
# From the answer to a typed code until the phone's signature. Unverified: seconds were seen.
CODE_CONFIRMED_WITHIN_S: Final = 30.0

QR_LIMIT: Final = "qr_limit"
TOO_MANY_ROUNDS: Final = "too_many_rounds"
QR_EXPIRED: Final = "qr_expired"
CODE_UNCONFIRMED: Final = "code_unconfirmed"


class CodeErrand(Enum):
    """What a pairing code asks the server."""

    HELLO = auto()
    FINISH = auto()


@dataclass(frozen=True, slots=True)
class PairingBar:
    """Why no round may begin.

    Attributes:
        wait_s: seconds until it may; None: time alone does not help.
    """

    reason: str
    wait_s: float | None = None


class PairingMachine:
    """The rounds of one device.

    Args:
        queries: of the connection; a code's purposes are `CodeErrand`s.

    Attributes:
        first_number: digits of the number the device belongs to; None: none yet.
        lapsed: why the last round ended by itself.
    """

    __slots__ = (
        "_ends_at",
        "_forced",
        "_keys",
        "_offer",
        "_polled",
        "_primary",
        "_queries",
        "_ref",
        "_refs",
        "_until",
        "_wish",
        "first_number",
        "lapsed",
    )

    def __init__(self, queries: Queries[object]) -> None:
        self.first_number: str | None = None
        self.lapsed = QR_EXPIRED
        self._queries = queries
        self._polled: deque[float] = deque(maxlen=MAX_ROUNDS)
        self._forced: deque[float] = deque(maxlen=MAX_FORCED_ROUNDS)
        self._wish = PairingWish()
        self._refs: deque[str] = deque()
        self._keys: DeviceKeys | None = None
        self._until: float | None = None
        self._ends_at: float | None = None
        self._offer: CodeOffer | None = None
        self._ref: bytes | None = None
        self._primary: bytes | None = None

    # --- rounds ---

    def bar(self, wish: PairingWish, now: float) -> PairingBar | None:
        """Why no round may begin for this wish now; None: it may."""
        begun = self._forced if wish.forced else self._polled
        if len(begun) < (begun.maxlen or 0):
            return None
        wait_s = begun[0] + ROUNDS_WINDOW_S - now
        if wait_s <= 0:
            return None
        return PairingBar(TOO_MANY_ROUNDS if wish.forced else QR_LIMIT, wait_s)

    def begin(self, wish: PairingWish) -> None:
        """A round begins; it counts from its first code on, so an outage does not use them up."""
        self._wish = wish

    def needs_its_own(self, wish: PairingWish, now: float) -> bool:
        """Whether the round under way cannot fulfil this wish."""
        if wish.phone is None or wish.phone == self._wish.phone:
            return False
        is_late = self._ends_at is not None and self._ends_at - now < CODE_WORTH_S
        return is_late or self._wish.phone is not None

    def join(self, wish: PairingWish) -> list[Command]:
        """Let the round under way fulfil this wish as well."""
        is_new = wish.phone is not None and wish.phone != self._wish.phone
        self._wish = replace(
            self._wish,
            relink=self._wish.relink or wish.relink,
            phone=wish.phone or self._wish.phone,
        )
        return [MakeCode()] if is_new and self._ends_at is not None else []

    def refs(self, refs: list[str], keys: DeviceKeys, now: float) -> list[Command]:
        """Take a list of refs, which replaces an older one, and show the first."""
        if self.over:
            (self._forced if self._wish.forced else self._polled).append(now)
        self._refs = deque(refs)
        self._keys = keys
        first_s = FIRST_OF_LONG_LIST_S if len(refs) >= LONG_LIST else NEXT_REF_S
        self._ends_at = now + first_s + NEXT_REF_S * (len(refs) - 1)
        commands = self._show(now, first_s)
        if self._wish.phone is not None and self._offer is None:
            commands.append(MakeCode())
        return commands

    def deadline(self) -> float | None:
        """When the code on show expires, clock seconds; None: no round is under way."""
        return self._until

    def tick(self, now: float) -> list[Command]:
        """Show the next QR code if one is due; `over` tells whether there was another."""
        if self._until is None or now < self._until:
            return []
        return self._show(now, NEXT_REF_S)

    def end(self) -> None:
        """Forget the refs and every secret of the round."""
        self._wish = PairingWish()
        self._refs.clear()
        self._keys = self._offer = self._ref = self._primary = None
        self._until = self._ends_at = None

    @property
    def over(self) -> bool:
        """Whether no round is under way (any more), or its refs have not come yet."""
        return self._until is None

    # --- the pairing code ---

    def made(self, event: CodeMade, keys: DeviceKeys | None, now: float) -> list[Command]:
        """Tell the server of the code that was made; a code for an older round is dropped."""
        phone = self._wish.phone
        if self.over or phone is None or keys is None or self._offer is not None:
            return []
        self._offer = event.offer
        build = partial(
            pairing_code.companion_hello,
            phone=phone,
            offer=event.offer,
            noise=keys.noise.public_key,
            display=event.display,
        )
        return [self._queries.ask(CodeErrand.HELLO, build, now)]

    def answered(self, errand: CodeErrand, node: Node, now: float) -> list[Command]:
        """Take the server's answer to one of our questions, which is no error.

        Raises:
            RemoteProtocolError: If it is malformed; the code counts as refused.
        """
        match errand:
            case CodeErrand.HELLO:
                self._ref = pairing_code.parse_ref(node)
                if self._offer is None or self._ends_at is None or self._wish.phone is None:
                    return []  # linked meanwhile, by scan
                return [ShowCode(self._offer.shown, self._wish.phone, self._ends_at - now)]
            case CodeErrand.FINISH:
                return []  # the phone's signature tells, or its absence
            case _:
                assert_never(errand)

    def typed(self, hello: PrimaryHello) -> list[Command]:
        """Somebody typed a code on the phone; only the one on show counts, and once."""
        if self._offer is None or hello.ref != self._ref or self._primary is not None:
            return []
        self._primary = hello.identity
        return [AgreeOnCode(self._offer, hello)]

    def agreed(self, agreed: Agreed, now: float) -> list[Command]:
        """Answer the phone; the QR codes are void, since they hold the former secret."""
        if self._ends_at is None or self._wish.phone is None:
            return []
        self._refs.clear()
        self._until = min(self._ends_at, now + CODE_CONFIRMED_WITHIN_S)
        build = partial(pairing_code.companion_finish, phone=self._wish.phone, finish=agreed.finish)
        return [HideQr(), self._queries.ask(CodeErrand.FINISH, build, now)]

    # --- the link ---

    def check(self, paired: PairedIdentity) -> None:
        """Look whether the phone that signs is the one on which the code was typed.

        Raises:
            PairingError: If it is another.
        """
        if self._primary is not None and paired.account_key != self._primary:
            raise PairingError(401, "signature-mismatch")

    def may_link(self, number: str) -> bool:
        """Whether this number may be linked: the first one, the same again, or as wished."""
        return self._wish.relink or self.first_number in (None, number)

    def _show(self, now: float, seconds: float) -> list[Command]:
        if not self._refs or self._keys is None:
            self.lapsed = QR_EXPIRED if self._primary is None else CODE_UNCONFIRMED
            self.end()
            return []
        self._until = now + seconds
        return [ShowQr(qr_text(self._refs.popleft(), self._keys), seconds)]
