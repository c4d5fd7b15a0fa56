from __future__ import annotations

import pytest

from sitpayd.actors.chronicle import Chronicle
from sitpayd.actors.commands import Dial, FoundIn, HangUp, TellIdentityChanged
from sitpayd.actors.events import LossKind, Lost, NetworkEvent, Opened, Received, Tick
from sitpayd.actors.messages import Deliver, Logout, Network, Pause, Reconnect, Remove, Resume
from sitpayd.actors.phase import Phase
from sitpayd.actors.registry import DeviceHandle
from sitpayd.actors.status import Evidence, Proof
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import failure
from sitpayd.whatsapp.stanzas.failure import ConnectFailure, StreamError
from tests.actors.builders import FRIEND_LID, a_record


@pytest.fixture
def handle() -> DeviceHandle:
    return DeviceHandle(a_record())


@pytest.fixture
def chronicle(handle: DeviceHandle) -> Chronicle:
    return Chronicle(handle)


def told(handle: DeviceHandle) -> list[tuple[str, str | None]]:
    """The history, oldest first."""
    return [(event.kind.value, event.detail) for event in reversed(handle.recorder.events())]


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        (Node("success", {}), Evidence.LOGIN),
        (Node("ack", {"class": "message"}), Evidence.ACK),
        (Node("iq", {"type": "result"}), Evidence.PONG),
        (Node("iq", {"type": "error"}), Evidence.PONG),
        (Node("iq", {"type": "get"}), Evidence.STANZA),
        (Node("receipt", {}), Evidence.STANZA),
        (Node("nonsense", {}), Evidence.STANZA),
    ],
    ids=lambda value: value.tag if isinstance(value, Node) else value,
)
def test_every_stanza_is_proof_of_life(
    handle: DeviceHandle, chronicle: Chronicle, node: Node, kind: Evidence
) -> None:
    chronicle.took(Network(1, Received(node)), 17.0)

    assert handle.proof == Proof(17.0, kind)


@pytest.mark.parametrize("event", [Opened(), Lost(LossKind.NETWORK, "")])
def test_socket_alone_is_no_proof_of_life(
    handle: DeviceHandle, chronicle: Chronicle, event: NetworkEvent
) -> None:
    chronicle.took(Network(1, event), 17.0)

    assert handle.proof is None


def test_life_of_a_connection_is_told(handle: DeviceHandle, chronicle: Chronicle) -> None:
    chronicle.did(Dial(registration=False))
    chronicle.took(Network(1, Opened()), 0.0)
    chronicle.took(Network(1, Received(Node("success", {}))), 0.0)
    chronicle.became(Phase.CONNECTED, None, None)
    chronicle.took(Network(1, Received(Node("ack", {}))), 0.0)
    chronicle.took(Tick(), 0.0)
    chronicle.did(HangUp())
    chronicle.took(Network(1, Lost(LossKind.SILENT, "nothing for 45 s")), 0.0)
    chronicle.became(Phase.WAITING, "no_answer", 7.4)

    assert told(handle) == [
        ("dial", None),
        ("opened", None),
        ("login", None),
        ("phase", "connected"),
        ("lost", "silent"),
        ("phase", "waiting: no_answer"),
        ("backoff", "7"),
    ]


@pytest.mark.parametrize(
    ("node", "event"),
    [
        (failure.failure(ConnectFailure(403)), ("failure", "403")),
        (failure.failure(ConnectFailure(0)), ("failure", "unknown")),
        # Words and numbers of a server are its own: what we do not know is not kept.
        (failure.failure(ConnectFailure(919876543210)), ("failure", "unknown")),
        (failure.stream_error(StreamError(code=515)), ("stream_error", "515")),
        (failure.stream_error(StreamError(conflict="replaced")), ("stream_error", "replaced")),
        (failure.stream_error(StreamError(child="ping")), ("stream_error", "ping")),
        (failure.stream_error(StreamError(child="secret")), ("stream_error", "unknown")),
        (failure.stream_error(StreamError(conflict="secret")), ("stream_error", "unknown")),
    ],
)
def test_refusal_is_told_by_its_code(
    handle: DeviceHandle, chronicle: Chronicle, node: Node, event: tuple[str, str]
) -> None:
    chronicle.took(Network(1, Received(node)), 0.0)

    assert told(handle) == [event]


def test_what_people_ask_for_is_told_and_the_doorbell_is_not(
    handle: DeviceHandle, chronicle: Chronicle
) -> None:
    for message in (Pause(), Deliver(), Resume(), Reconnect(), Logout(), Remove()):
        chronicle.took(message, 0.0)

    operations = ["pause", "resume", "reconnect", "logout", "remove"]
    assert told(handle) == [("operation", word) for word in operations]


def test_each_unanswered_ping_is_told_once(handle: DeviceHandle, chronicle: Chronicle) -> None:
    for pings in (0, 1, 1, 2, 2, 3, 0, 1, 2):
        chronicle.pinged(pings)

    assert told(handle) == [
        ("ping_unanswered", None),
        ("ping_unanswered", "2"),
        ("ping_unanswered", None),
    ]


@pytest.mark.parametrize(
    ("found_in", "detail"),
    [
        ("notification", "WhatsApp says so"),
        ("message", "seen in a message"),
        ("resend", "seen in a request for a message"),
        ("bundle", "seen when they were asked for"),
    ],
)
def test_changed_identity_is_told_without_saying_whose(
    handle: DeviceHandle, chronicle: Chronicle, found_in: FoundIn, detail: str
) -> None:
    chronicle.did(TellIdentityChanged(FRIEND_LID, found_in))

    assert told(handle) == [("identity_changed", detail)]
    assert FRIEND_LID.user not in handle.recorder.events()[0].text
