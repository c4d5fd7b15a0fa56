"""Lines: the connections of one device, one after another.

Each runs in a task of its own, and only the newest one counts: what an older one still reports has
another generation. Whoever wants to write hands it to the writer and never waits for the socket.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

import trio

from sitpayd.actors.commands import Dial
from sitpayd.actors.connector import Route
from sitpayd.actors.events import Event, LossKind, Lost, NetworkEvent, Received
from sitpayd.actors.memory import DeviceMemory
from sitpayd.actors.messages import Message, Network
from sitpayd.actors.proxies import parse_proxy
from sitpayd.actors.registry import DeviceHandle
from sitpayd.actors.transport import (
    MAX_OUTGOING,
    Outgoing,
    Report,
    refuse,
    refuse_what_is_left,
)
from sitpayd.actors.world import World
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.noise import Pattern
from sitpayd.whatsapp.stanzas.login import login_payload, registration_payload

# A connection that writes one last thing before it ends must not hold the process up.
GOODBYE_S: Final = 2.0


class Lines:
    """The connections of one life of a device.

    Args:
        takes: deals at once with a stanza of which nothing follows; False: the actor has to.

    Attributes:
        announced: the revision of the client that the last login named; None: none in this life.
    """

    def __init__(
        self,
        handle: DeviceHandle,
        world: World,
        memory: DeviceMemory,
        takes: Callable[[Network, Received], bool],
    ) -> None:
        self._handle = handle
        self._world = world
        self._memory = memory
        self._takes = takes
        self._outgoing: trio.MemorySendChannel[Outgoing] | None = None
        self._ended = trio.Event()
        self._ended.set()
        # Those that have not ended, the newest one last.
        self._open: list[trio.CancelScope] = []
        # Generation of a dial of which nothing was heard yet.
        self._dialled: int | None = None
        # The login that shakes hands.
        self._login: Connection | None = None
        self.announced: int | None = None

    def dial(self, nursery: trio.Nursery, command: Dial) -> None:
        """Begin a connection; it dials when the one before has ended."""
        self._handle.generation += 1
        self._dialled = self._handle.generation
        self._outgoing, outgoing = trio.open_memory_channel[Outgoing](MAX_OUTGOING)
        before, self._ended = self._ended, trio.Event()
        make = partial(self._make, command)
        report = partial(self._report, self._handle.generation)
        line = trio.CancelScope(shield=True)
        self._open.append(line)
        ends = (before, self._ended)
        nursery.start_soon(self._run, line, *ends, make, outgoing, report)

    def put(self, item: Outgoing) -> Network | None:
        """Hand something to the writer; a writer that does not keep up has lost its socket."""
        if self._outgoing is None:
            refuse(item)
            return None
        try:
            self._outgoing.send_nowait(item)
        except trio.WouldBlock:
            refuse(item)
            self.hang_up()
            lost = Lost(LossKind.NETWORK, "the socket does not take what is written")
            # Counted as the next generation: void if the same event goes on to hang up or dial.
            return Network(self._handle.generation, lost)
        except trio.BrokenResourceError:
            refuse(item)  # the connection has ended; its Lost is on the way
        return None

    def hang_up(self) -> None:
        """End the newest connection."""
        if self._dialled is not None:
            self._note_dial("abandoned")
            # Nothing was said on it: nobody waits for the rest of the dial.
            for line in self._open[-1:]:
                line.cancel()
        # From here on this connection's reports belong to the past.
        self._handle.generation += 1
        if self._outgoing is not None:
            self._outgoing.close()
            self._outgoing = None

    def end(self) -> None:
        """Let all connections write what they have, and not much longer: acks of what is stored."""
        self.hang_up()
        for line in self._open:
            line.deadline = trio.current_time() + GOODBYE_S

    def is_past(self, event: Event | Message) -> bool:
        """Whether an older connection reports this."""
        return isinstance(event, Network) and event.generation != self._handle.generation

    def way(self) -> Route:
        """How the device reaches WhatsApp at present."""
        proxy = self._handle.record.proxy
        world = self._world
        return Route(
            world.url, None if proxy is None else parse_proxy(proxy), world.allow_private_proxies
        )

    # --- one connection ---

    async def _run(
        self,
        line: trio.CancelScope,
        before: trio.Event,
        ended: trio.Event,
        make: Callable[[], Connection],
        outgoing: trio.MemoryReceiveChannel[Outgoing],
        report: Report,
    ) -> None:
        world = self._world
        try:
            # One connection per credentials: two would throw each other out. Waited for here, since
            # the one before may itself wait for room in the mailbox.
            await before.wait()
            # The scope is a shield: the actor's end gives it the time to write what is committed.
            with outgoing, line:
                try:
                    await world.converse(self.way, make, outgoing, world.bucket, report)
                finally:
                    refuse_what_is_left(outgoing)
        finally:
            self._open.remove(line)
            ended.set()

    def _make(self, command: Dial) -> Connection:
        credentials = self._memory.credentials
        assert credentials is not None
        client = self._world.revision.client
        self.announced = client.revision
        if command.registration:
            payload = registration_payload(credentials.keys, client)
        else:
            assert credentials.paired is not None
            payload = login_payload(credentials.paired.jid, client)
        resumes = self._world.noise_resume and not command.registration
        connection = Connection.initiator(
            noise=credentials.keys.noise,
            payload=payload,
            root_key=self._world.root_key,
            now=datetime.now(UTC).timestamp(),
            server=self._handle.acquaintance.server if resumes else None,
            routing_info=command.routing_info,
        )
        self._login = connection if resumes else None
        return connection

    async def _report(self, generation: int, event: NetworkEvent) -> None:
        if generation == self._dialled:
            # What comes first says how the dial went.
            self._note_dial(event.kind.value if isinstance(event, Lost) else "opened")
            self._note_handshake(complete=not isinstance(event, Lost))
        elif isinstance(event, Lost) and event.kind is LossKind.RESUMPTION:
            self._handle.acquaintance.failed()
        network = Network(generation, event)
        if isinstance(event, Received) and self._takes(network, event):
            return
        # Waits while the mailbox is full: then the socket is read more slowly.
        await self._handle.deliver(network)

    def _note_dial(self, outcome: str) -> None:
        self._dialled = None
        self._world.metrics.dial(outcome)

    def _note_handshake(self, *, complete: bool) -> None:
        login, self._login = self._login, None
        if login is None:
            return
        if complete:
            self._world.metrics.handshake(login.pattern)
            self._handle.acquaintance.met(login.server)
        elif login.pattern is Pattern.IK and login.has_spoken:
            self._handle.acquaintance.failed()
