"""DeviceActor: the trio shell around one device's machine.

Waits for the mailbox until the machine's deadline, hands in what came, performs the commands in
order, and feeds their results back. It never waits for the socket: a task of its own runs each
connection, and what an older connection still reports is dropped by its generation. An exception
ends the actor; the supervisor starts it again from what is stored.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import pairwise
from random import Random
from typing import assert_never

import trio

from sitpayd.actors.acquaintances import Acquaintances
from sitpayd.actors.chronicle import Chronicle
from sitpayd.actors.commands import (
    AboutPeople,
    AddressByNumber,
    AgreeOnCode,
    Arm,
    AskPhone,
    AskRevision,
    ClearRest,
    Command,
    Confirm,
    CountAttempt,
    Dial,
    DropSessions,
    Finish,
    ForgetKeys,
    ForgetMissed,
    HangUp,
    HideQr,
    Hold,
    HoldFirstContacts,
    KeepHistory,
    KeepToken,
    Learn,
    LearnAll,
    LoadSessions,
    LookUpResend,
    MakeCode,
    MakeKeys,
    MakePreKeys,
    Mark,
    MarkLate,
    MarkReceipt,
    MarkUploaded,
    NextRow,
    NoteGiven,
    Oddity,
    Receive,
    Remark,
    Resend,
    Respond,
    SaveFact,
    SaveIdentity,
    SaveLid,
    SaveNewChatHold,
    SaveRest,
    Send,
    SettleLoggedOut,
    ShowCode,
    ShowQr,
    TellIdentityChanged,
    TellPresence,
    Write,
)
from sitpayd.actors.downloads import Downloads
from sitpayd.actors.events import (
    Answer,
    CodeMade,
    Event,
    KeysMade,
    Lost,
    Received,
    ResendLookedUp,
    Resent,
    RowLoaded,
    Started,
    StorageFailed,
    Tick,
)
from sitpayd.actors.lines import GOODBYE_S, Lines
from sitpayd.actors.machine import DeviceMachine
from sitpayd.actors.memory import DeviceMemory, clock_of
from sitpayd.actors.messages import (
    Deliver,
    HistoryPart,
    Message,
    Network,
    PairingWish,
    Question,
    Reply,
    Reroute,
    Revised,
    StartPairing,
    TellReads,
)
from sitpayd.actors.pairing import PairingBar
from sitpayd.actors.phase import Phase
from sitpayd.actors.reception import Reception
from sitpayd.actors.recorder import Noted
from sitpayd.actors.registry import DeviceHandle, Outlook, ShownCode, ShownQr
from sitpayd.actors.resender import Resender
from sitpayd.actors.status import DeviceStatus
from sitpayd.actors.strangers import Barred
from sitpayd.actors.world import World
from sitpayd.errors import StorageBusyError, StorageFullError
from sitpayd.log import get_logger
from sitpayd.storage.devices import device_by_id
from sitpayd.storage.records import Closeness, NewChatHold, Rest, RowState, utc_now
from sitpayd.whatsapp.stanzas.message import LidMapping
from sitpayd.whatsapp.stanzas.pairing_code import display_name

_log = get_logger()


class DeviceActor:
    """One life of one device, from a start to a crash or its end."""

    def __init__(self, handle: DeviceHandle, world: World) -> None:
        self._handle = handle
        # What a connection of an earlier life reported may still lie in the mailbox.
        handle.generation += 1
        self._world = world
        self._machine = DeviceMachine(Random(), world.limits)
        handle.outlook = self._outlook
        handle.pairing_bar = self._pairing_bar
        self._memory = DeviceMemory(world.database, world.outcomes, handle.record.id, world.keygen)
        self._reception = Reception(world.database, world.outcomes, self._memory, world.metrics)
        self._acquaintances = Acquaintances(
            world.database, handle.record.id, world.limits, world.metrics
        )
        # Questions that were taken and not answered; closed with this life.
        self._open: set[Reply] = set()
        self._resender = Resender(world.database, self._memory)
        self._chronicle = Chronicle(handle)
        self._lines = Lines(handle, world, self._memory, self._takes_pong)
        self._downloads = Downloads(
            world.database,
            handle.record.id,
            world.media,
            self._lines.way,
            handle.deliver,
            partial(handle.recorder.note, Noted.HISTORY_SYNC),
        )
        self._notices_seen = 0
        self._log = _log.bind(session_id=handle.session_id)
        # Whether it waits at its mailbox, and when it will be rung at the latest.
        self._waits = False
        self._alarm_at = math.inf
        self._published: tuple[Phase, str | None] | None = None
        self._finished = False

    async def run(self) -> None:
        """Live until the removed device is logged out; only then does this return."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                async with self._world.starts:
                    await self._set_aside()
                    started = await self._started()
                await self._take(started)
                while not self._finished:
                    await self._take(await self._next())
                    if self._handle.doorbell and not self._finished:
                        self._handle.doorbell = False
                        await self._take(Deliver())
                    if self._handle.read_bell and not self._finished:
                        self._handle.read_bell = False
                        await self._take(TellReads())
            except trio.Cancelled:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + GOODBYE_S):
                    await self._say_goodbye()
                raise
            finally:
                for reply in self._open:
                    reply.close()
                self._handle.show_qr(None)
                self._handle.show_code(None)
                self._handle.pairs = False
                self._lines.end()

    async def _say_goodbye(self) -> None:
        """The process stops, or a person has the actor begin anew: that is no logout."""
        for command in self._machine.farewell():
            await self._perform(command, None)

    async def _set_aside(self) -> None:
        """Settle the row that the lives before died of, before it is on top again."""
        handle = self._handle
        handle.row_in_hand = None
        if handle.poison is not None:
            await self._memory.set_aside(handle.poison)
            handle.poison = None

    async def _started(self) -> Started:
        await self._memory.load_credentials()
        record = await self._world.database.read(device_by_id, self._handle.record.id)
        assert record is not None
        self._rest = record.rest
        credentials = self._memory.credentials
        known = await self._memory.known_of_login()
        return Started(
            keys=credentials.keys if credentials else None,
            paired=credentials.paired if credentials else None,
            rest=record.rest,
            leaving=record.desired == "removed",
            paused=record.desired == "paused",
            logout_wanted=record.logout_wanted,
            unix_offset_s=utc_now().timestamp() - trio.current_time(),
            first_contacts=await self._memory.first_contacts(),
            new_chats=_barred(record.new_chats),
            phone=record.phone,
            uploaded_prekeys=known.uploaded_prekeys,
            routing_info=known.routing_info,
            props=known.props,
            owes_reads=await self._acquaintances.owes_reads(),
        )

    async def _next(self) -> Event | Message:
        """The next thing that concerns this life of the device."""
        while True:
            deadline = self._machine.deadline()
            if deadline is not None:
                if deadline <= trio.current_time():
                    await trio.lowlevel.checkpoint()
                    return Tick()
                self._set_alarm(deadline)
            self._waits = True
            try:
                message = await self._handle.mailbox.receive()
            finally:
                self._waits = False
            if not self._lines.is_past(message):
                return message

    def _set_alarm(self, deadline: float) -> None:
        if deadline < self._alarm_at:
            self._alarm_at = deadline
            self._world.alarms.set(deadline, self._alarm)

    def _alarm(self) -> None:
        self._alarm_at = math.inf
        # An actor at work looks at the clock before it waits again.
        deadline = self._machine.deadline() if self._waits else None
        if deadline is None:
            return
        if deadline <= trio.current_time():
            self._handle.wake()
        else:
            self._set_alarm(deadline)

    async def _take(self, event: Event | Message) -> None:
        """Hand an event in, and everything that follows from it."""
        events = deque([event])
        while events:
            event = events.popleft()
            if self._lines.is_past(event):
                continue
            self._tell(event)
            self._handle.row_in_hand = self._row_of(event)
            if isinstance(event, Question):
                self._open.add(event.reply)
            before = self._machine.phase
            commands = self._machine.handle(event, trio.current_time())
            if isinstance(event, StartPairing) or before is Phase.PAIRING:
                self._handle.pairs = self._machine.phase is Phase.PAIRING
            self._chronicle.pinged(self._machine.unanswered_pings)
            self._publish()
            for place, (command, following) in enumerate(pairwise([*commands, None])):
                assert command is not None
                try:
                    result = await self._perform(command, following)
                except (StorageFullError, StorageBusyError) as error:
                    self._log.error("device.storage_failed", error=str(error))
                    self._memory.forget_sessions_at_hand()
                    events.append(StorageFailed(arming=isinstance(command, Arm)))
                    self._leave_unanswered(commands[place:])
                    break
                self._chronicle.did(command)
                if result is not None:
                    events.append(result)
        # What the writer dies of from now on is what it was given.
        self._handle.row_in_hand = self._machine.row_in_hand

    def _leave_unanswered(self, commands: list[Command]) -> None:
        """These are not performed: who waits for an answer among them learns it."""
        for command in commands:
            if isinstance(command, Respond | Confirm):
                command.reply.close()
                self._open.discard(command.reply)

    def _row_of(self, event: Event | Message) -> int | None:
        """The row to blame if this event makes the actor crash."""
        if isinstance(event, RowLoaded) and event.row is not None:
            return event.row.id
        if isinstance(event, Network) and isinstance(event.event, Received):
            # What others send is no row's fault; these two may answer one.
            return self._machine.row_in_hand if event.event.node.tag in ("ack", "iq") else None
        if isinstance(event, Answer | ResendLookedUp | Resent):
            return None  # what follows from what others sent
        return self._machine.row_in_hand

    async def _perform(self, command: Command, following: Command | None) -> Event | Message | None:
        memory = self._memory
        if isinstance(command, AboutPeople):
            return await self._acquaintances.perform(command)
        match command:
            case Send():
                return self._lines.put(command.node)
            case Write():
                return self._lines.put(command.armed.stanza)
            case CountAttempt():
                await memory.count_attempt(command.row.id)
            case Dial():
                self._dial(command)
            case HangUp():
                self._lines.hang_up()
            case NextRow():
                return await memory.next_row(command)
            case LoadSessions():
                return await memory.load_sessions(command.devices)
            case Arm():
                return await memory.arm(command)
            case Mark():
                ahead = following if isinstance(following, NextRow) else None
                owed = await memory.mark(command, look_ahead=ahead)
                if command.state is RowState.SENT:
                    waited = utc_now() - command.row.created_at
                    self._world.metrics.sent(waited.total_seconds())
                return owed
            case ForgetMissed():
                await memory.forget_missed(command.row.id)
            case MarkLate():
                await memory.mark_late(command)
            case MarkReceipt():
                return await self._reception.mark_receipt(command)
            case LookUpResend():
                return await self._resender.look_up(command)
            case Resend():
                return await self._resender.resend(command)
            case AskPhone():
                return await self._resender.ask_phone(command)
            case Receive():
                answer = await self._reception.receive(command.node)
                self._fetch_notices(only_new=True)
                return answer
            case Learn():
                await self._reception.learn(command.pn, command.lid)
            case LearnAll():
                await self._reception.learn_all(command.mappings)
            case AddressByNumber():
                await self._reception.address_by_number(command.pn, command.wanted)
            case DropSessions():
                await self._reception.drop_sessions(command.user, command.numbers)
                if command.numbers is None:
                    # All of them: the person has another identity.
                    return await memory.contacts.given_to(command.user)
            case TellIdentityChanged():
                self._log.warning("identity.changed", found_in=command.found_in)
            case KeepHistory():
                return await self._keep_history(command.part)
            case KeepToken():
                return await memory.contacts.keep_token(command)
            case NoteGiven():
                await memory.contacts.note_given(command)
            case Hold():
                await memory.hold(command)
            case HoldFirstContacts():
                await memory.hold_first_contacts(command)
            case SaveNewChatHold():
                await memory.save_new_chat_hold(command)
            case MakeKeys():
                return KeysMade(await memory.make_keys())
            case SaveIdentity():
                await memory.save_identity(command.paired)
                phone = command.paired.jid.user
                self._handle.record = replace(self._handle.record, phone=phone)
            case SaveLid():
                await memory.save_lid(command.paired)
            case SaveFact():
                await memory.save_fact(command)
            case Remark():
                self._remark(command)
            case ForgetKeys():
                await memory.forget_keys()
            case MakePreKeys():
                return await memory.make_prekeys(command.count)
            case MarkUploaded():
                await memory.mark_uploaded(command.key_ids)
            case ShowQr():
                expires_at = utc_now() + timedelta(seconds=command.seconds)
                self._handle.show_qr(ShownQr(command.text, expires_at))
            case MakeCode():
                display = display_name(self._world.revision.client.os_name)
                return CodeMade(await memory.make_code(), display)
            case ShowCode():
                expires_at = utc_now() + timedelta(seconds=command.seconds)
                self._handle.show_code(ShownCode(command.text, command.phone, expires_at))
            case AgreeOnCode():
                return await memory.agree_on_code(command.offer, command.hello)
            case HideQr():
                self._handle.show_qr(None)
                self._handle.show_code(None)
            case SaveRest():
                since = utc_now()
                until = since + timedelta(seconds=command.until_s) if command.until_s else None
                rest = Rest(command.phase.value, command.reason, since, until)
                await memory.save_rest(rest)
            case AskRevision():
                return Revised() if self._world.revision.refused(self._lines.announced) else None
            case ClearRest():
                await memory.save_rest(None)
            case Respond():
                command.reply.put(command.reaction)
                self._open.discard(command.reply)
            case Confirm():
                self._open.discard(command.reply)
                return self._lines.put(command)
            case TellPresence():
                return await self._tell_presence(available=command.available)
            case SettleLoggedOut():
                await memory.settle_logged_out()
            case Finish():
                self._finished = True
            case _:
                assert_never(command)
        return None

    # --- the connection ---

    def _dial(self, command: Dial) -> None:
        self._handle.is_available = self._reception.is_available = False
        if not command.registration:
            self._world.metrics.reconnect(self._machine.reason or "started")
        self._lines.dial(self._nursery, command)

    def _takes_pong(self, network: Network, event: Received) -> bool:
        """Whether this was a pong, and is dealt with: without waking an actor that has no work.

        Only where the actor waits and nothing lies before it: order is kept, and an actor that
        takes nothing any more proves nothing.
        """
        if not self._handle.is_idle or self._lines.is_past(network):
            return False
        now = trio.current_time()
        if not self._machine.pong(event.node, now):
            return False
        self._chronicle.took(network, now)
        self._chronicle.pinged(self._machine.unanswered_pings)
        return True

    async def _tell_presence(self, *, available: bool) -> Network | None:
        device_name = self._handle.record.name
        node = await self._acquaintances.presence(device_name, available=available)
        self._handle.is_available = self._reception.is_available = available
        return self._lines.put(node)

    # --- what the phone tells ---

    def _fetch_notices(self, *, only_new: bool = False) -> None:
        """Let the phone's notices be fetched, if there are any."""
        notices, before = self._memory.notices, self._notices_seen
        self._notices_seen = notices
        if self._machine.phase is Phase.CONNECTED and notices > (before if only_new else 0):
            self._downloads.begin(self._nursery)

    async def _keep_history(self, part: HistoryPart) -> Event | None:
        contacts, credentials = self._memory.contacts, self._memory.credentials
        if not await contacts.is_waiting(part.notice_id):
            return None  # of a login that is over
        mappings = tuple(item for item in part.items if isinstance(item, LidMapping))
        await self._reception.learn_all(mappings)
        own = None if credentials is None else credentials.paired
        answer = await contacts.keep_history(part, own)
        self._downloads.kept()
        return answer

    # --- what others see ---

    def _outlook(self, recipient: str, standing: Closeness) -> Outlook | None:
        barred = self._machine.outlook(recipient, standing, trio.current_time())
        if barred is None:
            return None
        until = utc_now() + timedelta(seconds=barred.until - trio.current_time())
        return Outlook(barred.reason, until)

    def _pairing_bar(self, wish: PairingWish) -> PairingBar | None:
        return self._machine.pairing_bar(wish, trio.current_time())

    def _publish(self) -> None:
        now = (self._machine.phase, self._machine.reason)
        if now == self._published or self._machine.leaving:
            return  # nothing new, or removed: nobody is told of it any more
        first = self._published is None
        self._published = now
        since = utc_now()
        until = None
        if self._machine.until_s is not None:
            until = since + timedelta(seconds=self._machine.until_s)
        if first and self._rest is not None:
            since, until = self._rest.since, self._rest.until
        wait_s = self._machine.redials_in(trio.current_time())
        if wait_s is not None:
            until = since + timedelta(seconds=wait_s)
        self._tell_others()
        record = self._handle.record
        phase, reason = now
        self._chronicle.became(phase, reason, wait_s)
        self._world.board.publish(
            DeviceStatus(record.session_id, record.partner_id, phase.value, reason, since, until)
        )
        self._handle.notify()
        self._log.info(f"device.{phase.value}", reason=reason, generation=self._handle.generation)

    def _tell_others(self) -> None:
        comeback = self._world.comeback
        if self._machine.waits_with_others:
            comeback.waits(self._handle)
        else:
            comeback.left(self._handle)
        if self._machine.phase is Phase.CONNECTED:
            comeback.got_through()
            self._fetch_notices()
        elif self._machine.phase not in (Phase.CONNECTING, Phase.WAITING):
            self._downloads.stop()

    def _remark(self, command: Remark) -> None:
        log = self._log.error if command.oddity is Oddity.OTHER_LID else self._log.warning
        log("device.odd", what=command.oddity.value, detail=command.detail)

    def _tell(self, event: Event | Message) -> None:
        self._chronicle.took(event, trio.current_time())
        if isinstance(event, Reroute):
            self._downloads.stop()
        if isinstance(event, Network) and isinstance(event.event, Lost):
            lost = event.event
            self._log.info(
                "connection.lost",
                kind=lost.kind.value,
                detail=lost.detail,
                generation=event.generation,
            )


def _barred(hold: NewChatHold | None) -> Barred | None:
    return None if hold is None else Barred(clock_of(hold.until), hold.reason)
