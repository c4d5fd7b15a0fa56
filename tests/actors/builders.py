"""What the tests of actors are played with: people, keys, rows, the server's stanzas, scenes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from sitpayd.actors.commands import (
    Arm,
    Dial,
    HideQr,
    LoadSessions,
    MakeKeys,
    Mark,
    NextRow,
    SaveChecks,
    Send,
    Write,
)
from sitpayd.actors.events import (
    Armed,
    KeysMade,
    Opened,
    RowLoaded,
    SessionsLoaded,
    Started,
)
from sitpayd.actors.messages import Deliver, Reaction, StartPairing
from sitpayd.actors.pacing import PacingLimits
from sitpayd.actors.phase import Phase
from sitpayd.storage.records import DeviceRecord, OutboxRow, Rest, RowState
from sitpayd.whatsapp.jid import Jid, lid, pn
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas import (
    iq,
    login,
    message,
    notification,
    pairing,
    prekeys,
    props,
    receipt,
    usync,
)
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.props import Props
from tests.support.playbook import CURTAIN_S, Playbook

OWN_PN, OWN_LID = pn("4915112345678", 7), lid("100000000000001", 7)
FRIEND_PN, FRIEND_LID = pn("919876543210"), lid("200000000000002")
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
# UTC minus the clock, so that a play begins at noon.
UNIX_OFFSET_S = NOON.timestamp() - CURTAIN_S
SERVER_T = int(NOON.timestamp())

KEYS = DeviceKeys.generate()
PHONE = KeyPair.generate()
REFS = ["ref-1", "ref-2", "ref-3", "ref-4", "ref-5", "ref-6"]


def a_record(number: int = 1) -> DeviceRecord:
    """A device that is not linked, as storage hands it out."""
    return DeviceRecord(
        id=number,
        session_id=f"wa_{number}",
        partner_id=1,
        user_id=1,
        name="Phone",
        token="",
        desired="running",
        rest=None,
        phone=None,
        removed_at=None,
        created_at=NOON,
    )


def some_identity(keys: DeviceKeys = KEYS) -> PairedIdentity:
    """A linked account, as pairing with the phone gives it."""
    paired, _ = pairing.accept_pair_success(some_pair_success(keys), keys)
    return paired


def some_pair_success(keys: DeviceKeys = KEYS, *, adv_secret: bytes | None = None) -> Node:
    container = pairing.make_signed_identity(
        PHONE,
        keys.identity.public_key,
        keys.adv_secret if adv_secret is None else adv_secret,
        key_index=3,
        timestamp=SERVER_T,
        raw_id=1001,
    )
    return pairing.pair_success(
        "Y", container, jid=OWN_PN, lid=OWN_LID, platform="android", t=SERVER_T
    )


PAIRED = some_identity()


def started(
    *,
    keys: DeviceKeys | None = KEYS,
    paired: PairedIdentity | None = PAIRED,
    rest: Rest | None = None,
    leaving: bool = False,
    paused: bool = False,
    logout_wanted: bool = False,
    owes_reads: bool = False,
) -> Started:
    return Started(
        keys, paired, rest, leaving, paused, UNIX_OFFSET_S, logout_wanted, owes_reads=owes_reads
    )


def rest(phase: Phase, reason: str = "because") -> Rest:
    return Rest(phase.value, reason, NOON)


def a_row(number: int = 1, *, to: str = FRIEND_PN.user, stanza: bytes | None = None) -> OutboxRow:
    return OutboxRow(
        id=number,
        device_id=1,
        seq=number,
        message_id=f"msg_{number}",
        wa_message_id=f"3EB0{number:018X}",
        recipient=to,
        text="Hello!",
        state=RowState.ACCEPTED if stanza is None else RowState.ARMED,
        reason=None,
        stanza=stanza,
        participants=None,
        phash=None,
        attempts=0,
        server_time=None,
        created_at=NOON,
        expires_at=NOON + timedelta(days=1),
    )


def bundle_of(identity: KeyPair, *, forged: bool = False) -> PreKeyBundle:
    """A fresh bundle without one-time prekey; a forged one does not verify."""
    keys = replace(DeviceKeys.generate(), identity=identity)
    signed = keys.signed_prekey if forged else type(keys.signed_prekey).generate(1, identity)
    return PreKeyBundle(
        registration_id=4711,
        identity=identity.public_key,
        signed_prekey_id=1,
        signed_prekey=signed.key_pair.public_key,
        signature=signed.signature,
        prekey_id=None,
        prekey=None,
    )


@dataclass(eq=False)
class Ear:
    """Who waits for the answer to a question."""

    heard: list[Reaction] = field(default_factory=list)
    is_closed: bool = False

    def put(self, reaction: Reaction, /) -> None:
        self.heard.append(reaction)

    def close(self) -> None:
        self.is_closed = True


# --- the server's stanzas ---


def result(query_id: str, *children: Node) -> Node:
    return Node("iq", {"id": query_id, "type": "result"}, children or None)


def refused(query_id: str, code: int = 500) -> Node:
    return Node("iq", {"id": query_id, "type": "error"}, (Node("error", {"code": str(code)}),))


def count_result(query_id: str, count: int) -> Node:
    return result(query_id, Node("count", {"value": str(count)}))


def digest_refused() -> Node:
    """The server holds no keys of ours: an answer without them."""
    return result("#digest")


def few_prekeys(left: int = 1) -> Node:
    """The server tells by itself how many one-time prekeys are left."""
    return notification.notification("N", notification.PreKeyCount(left), t=SERVER_T)


def success(t: int = SERVER_T) -> Node:
    return login.success(OWN_LID, t)


def message_ack(row: OutboxRow, *, error: int | None = None, phash: str | None = None) -> Node:
    sent = Node("message", {"id": row.wa_message_id, "to": FRIEND_LID})
    return receipt.message_ack(sent, SERVER_T, error=error, phash=phash)


def user_devices(
    user: Jid, devices: tuple[int, ...] | None, *, lid: Jid | None = None
) -> usync.UserAnswer:
    """What the server knows of a person; no devices: an error stands in their place."""
    listed = None
    if devices is not None:
        listed = tuple(usync.Device(number, number or None) for number in devices)
    return usync.UserAnswer(user, lid=lid, devices=listed)


def devices_query(query_id: str, *users: Jid) -> Send:
    return Send(usync.devices_query(query_id, users, sid="sid"))


def devices_result(query_id: str, *answers: usync.UserAnswer) -> Node:
    asked = usync.devices_query(query_id, [answer.jid for answer in answers if answer.jid], sid="")
    return usync.answer(asked, answers)


def contact_query(query_id: str, number: str = FRIEND_PN.user) -> Send:
    return Send(usync.contact_query(query_id, [number], sid="sid"))


def noted(registered: bool | None, number: str = FRIEND_PN.user) -> SaveChecks:
    """What a look-up told; None: it is about to be made."""
    return SaveChecks({number: registered})


def contact_result(query_id: str, *, exists: bool) -> Node:
    asked = usync.contact_query(query_id, [FRIEND_PN.user], sid="")
    answer = usync.UserAnswer(FRIEND_PN, contact=(FRIEND_PN.user, exists))
    return usync.answer(asked, [answer])


def bundles_query(query_id: str, *devices: Jid) -> Send:
    return Send(prekeys.bundles_query(query_id, devices))


def bundles_result(query_id: str, bundles: dict[Jid, PreKeyBundle | prekeys.BundleRefused]) -> Node:
    asked = prekeys.bundles_query(query_id, list(bundles))
    return prekeys.bundles_answer(asked, bundles)


FRIEND = user_devices(FRIEND_PN, (0, 2), lid=FRIEND_LID)
OURSELVES = user_devices(OWN_PN.bare, (0, 7, 9), lid=OWN_LID.bare)
FRIENDS_DEVICES = (FRIEND_LID, FRIEND_LID.with_device(2))
OUR_OTHERS = (OWN_LID.bare, OWN_LID.with_device(9))
OUR_PHASH = message.phash({*FRIENDS_DEVICES, *OUR_OTHERS, OWN_LID})

UNIFIED_SESSION = Send(iq.unified_session(SERVER_T * 1000))
# What a device says as soon as it is connected, and the answers for which it does not wait.
GREETING = (
    Send(prekeys.digest_query("#digest")),
    UNIFIED_SESSION,
    Send(props.query("#props", Props())),
)
GREETED = (result("#digest", Node("digest")), result("#props", Node("props")))


# --- scenes ---


def pairing_play() -> Playbook:
    """A device that shows its first QR code."""
    play = Playbook()
    play.on(started(keys=None, paired=None)).expects_nothing()
    play.on(StartPairing()).expects(MakeKeys())
    play.on(KeysMade(KEYS)).expects(Dial(registration=True))
    play.on(Opened()).expects_nothing()
    play.hears(pairing.pair_device("X", REFS)).said()
    return play.stands(Phase.PAIRING)


def paired_play() -> Playbook:
    """A device that was just linked, on its registration connection."""
    play = pairing_play()
    hide, _, _ = play.hears(some_pair_success()).said()
    assert hide == HideQr()
    return play.stands(Phase.PAIRED)


def opened_play(limits: PacingLimits | None = None, *, leaving: bool = False) -> Playbook:
    """A linked device whose handshake is complete."""
    play = Playbook(limits)
    play.on(started(leaving=leaving)).expects(Dial(registration=False))
    return play.on(Opened()).expects_nothing()


def connected_play(limits: PacingLimits | None = None) -> Playbook:
    """A connected device; #1 and #2 were asked, and there is no row."""
    play = opened_play(limits)
    play.hears(success()).expects(Send(prekeys.count_query("#1")))
    play.hears(count_result("#1", 100)).expects(Send(iq.active("#2")))
    play.hears(result("#2")).expects(*GREETING, NextRow())
    for answer in GREETED:
        play.hears(answer).expects_nothing()
    return play.on(RowLoaded(None)).expects_nothing().stands(Phase.CONNECTED)


def arm_command(row: OutboxRow, bundles: dict[Jid, PreKeyBundle] | None = None) -> Arm:
    return Arm(row, FRIEND_LID, FRIEND_PN, FRIENDS_DEVICES, OUR_OTHERS, OUR_PHASH, bundles or {})


def known_friend_play(limits: PacingLimits | None = None) -> tuple[Playbook, OutboxRow]:
    """A device that has written to a friend (#3) and got its ack; nothing is left to do."""
    play, row = connected_play(limits), a_row(100)
    in_flight(play, row, "#3")
    play.hears(message_ack(row)).expects(Mark(row, RowState.SENT, server_time=SERVER_T), NextRow())
    play.on(RowLoaded(None)).expects_nothing()
    return play, row


def in_flight(play: Playbook, row: OutboxRow, query_id: str) -> Armed:
    """Bring a row to a friend on its way, as the first one."""
    play.on(Deliver()).expects(NextRow())
    play.on(RowLoaded(row)).expects(devices_query(query_id, FRIEND_PN, OWN_PN.bare))
    play.hears(devices_result(query_id, FRIEND, OURSELVES)).said()
    play.on(SessionsLoaded(frozenset())).expects(arm_command(row))
    armed = Armed(row, b"stanza of " + row.message_id.encode())
    play.on(armed).expects(Write(armed))
    return armed


def known(play: Playbook, row: OutboxRow) -> Armed:
    """Bring a row to a friend whose devices are known on its way."""
    play.on(RowLoaded(row)).expects(LoadSessions(FRIENDS_DEVICES + OUR_OTHERS))
    play.on(SessionsLoaded(frozenset())).expects(arm_command(row))
    armed = Armed(row, b"stanza of " + row.message_id.encode())
    play.on(armed).expects(Write(armed))
    return armed
