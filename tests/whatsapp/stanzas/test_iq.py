from __future__ import annotations

import pytest

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import SERVER_JID
from sitpayd.whatsapp.node import Attr, Node
from sitpayd.whatsapp.stanzas import iq
from sitpayd.whatsapp.stanzas.iq import IqError, IqIds

from .wire import OWN_PN, sent, vector


def test_ids_of_one_connection_count_up_behind_one_prefix() -> None:
    ids = IqIds("7.9-")
    assert [ids.next(), ids.next()] == ["7.9-1", "7.9-2"]


def test_two_connections_have_other_prefixes() -> None:
    assert len({IqIds().next() for _ in range(50)}) > 40


def test_client_answers_the_server_that_asked() -> None:
    answer = sent(iq.result(sent(iq.server_ping("77"))))
    assert (answer.jid("to"), answer.text("type"), answer.text("id")) == (
        SERVER_JID,
        "result",
        "77",
    )
    assert "from" not in answer.attrs


@pytest.mark.parametrize("from_", [{}, {"from": SERVER_JID}])
def test_ping_of_the_server_is_answered_to_the_server(from_: dict[str, Attr]) -> None:
    ping = Node("iq", {**from_, "id": "77", "type": "get", "xmlns": "urn:xmpp:ping"})
    answer = sent(iq.pong(sent(ping)))
    assert answer == Node("iq", {"to": SERVER_JID, "type": "result", "id": "77"})


def test_server_reads_what_a_client_cleaned() -> None:
    clean = sent(iq.clean_dirty("5", "groups", 17))
    assert iq.parse_clean(clean) == ("groups", 17)
    assert iq.parse_clean(sent(iq.clean_dirty("5", "groups", None))) == ("groups", None)
    assert iq.parse_clean(sent(iq.ping("5"))) is None


def test_server_reads_how_much_of_the_backlog_is_asked_for() -> None:
    assert iq.parse_offline_batch(sent(iq.offline_batch(7))) == 7
    assert iq.parse_offline_batch(sent(iq.unified_session(0))) is None
    with pytest.raises(RemoteProtocolError):
        iq.parse_offline_batch(Node("ib", {}, (Node("offline_batch"),)))


def test_server_answers_in_the_name_that_was_asked() -> None:
    answer = sent(iq.result(sent(iq.ping("5"))))
    assert (answer.jid("from"), answer.text("type"), answer.text("id")) == (
        SERVER_JID,
        "result",
        "5",
    )
    assert "to" not in answer.attrs


def test_request_without_id_cannot_be_answered() -> None:
    with pytest.raises(RemoteProtocolError):
        iq.result(Node("iq", {"type": "get", "from": SERVER_JID}))


def test_result_is_no_error() -> None:
    assert iq.parse_iq_error(sent(iq.result(iq.ping("5")))) is None


def test_error_answer_tells_code_text_and_backoff() -> None:
    error = Node("error", {"code": "429", "text": "rate-overlimit", "backoff": "60"})
    assert iq.parse_iq_error(Node("iq", {"type": "error"}, (error,))) == IqError(
        429, "rate-overlimit", 60
    )


def test_refused_request_reads_as_it_was_refused() -> None:
    refused = sent(iq.error(iq.active("5"), 404, "item-not-found"))
    assert iq.parse_iq_error(refused) == IqError(404, "item-not-found")


def test_error_answer_without_error_element_is_still_an_error() -> None:
    assert iq.parse_iq_error(Node("iq", {"type": "error"})) == IqError(0, None)


def test_request_is_no_answer() -> None:
    with pytest.raises(RemoteProtocolError):
        iq.parse_iq_error(iq.ping("5"))


@pytest.mark.parametrize("ping", [iq.ping("5"), iq.server_ping("5")])
def test_pings_of_both_sides_are_recognised(ping: Node) -> None:
    assert iq.is_ping(sent(ping))


@pytest.mark.parametrize(
    "node", [iq.active("5"), iq.result(iq.ping("5")), Node("message", {"xmlns": "w:p"})]
)
def test_other_stanzas_are_no_ping(node: Node) -> None:
    assert not iq.is_ping(node)


def test_logout_names_this_device_as_an_address() -> None:
    logout = sent(iq.logout("5", OWN_PN))
    assert logout.text("xmlns") == "md"
    assert iq.parse_logout(logout) == OWN_PN


def test_other_md_request_is_no_logout() -> None:
    assert iq.parse_logout(iq.set_("md", Node("other"), id="5")) is None


def test_clean_repeats_what_was_dirty() -> None:
    clean = sent(iq.clean_dirty("5", "account_sync", 1_760_000_000)).required("clean")
    assert clean.attrs == {"type": "account_sync", "timestamp": "1760000000"}


def test_backlog_is_asked_for_in_batches_of_a_hundred() -> None:
    assert sent(iq.offline_batch(100)).required("offline_batch").number("count") == 100


def test_unified_session_ids_are_the_recorded_ones() -> None:
    for case in vector("unified_session")["cases"]:
        assert iq.unified_session_id(case["now_ms"]) == case["id"]


def test_unified_session_counts_in_server_time() -> None:
    child = sent(iq.unified_session(1_759_999_990_000, 10_000)).required("unified_session")
    assert child.text("id") == iq.unified_session_id(1_760_000_000_000)
