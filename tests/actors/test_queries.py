from __future__ import annotations

from sitpayd.actors.commands import Send
from sitpayd.actors.queries import ANSWER_WITHIN_S, Queries
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq


def asked(queries: Queries[str], purpose: str, now: float = 0.0, **within: float) -> str:
    send = queries.ask(purpose, iq.ping, now, **within)
    assert isinstance(send, Send)
    return send.node.required_text("id")


def answer(query_id: str, kind: str = "result") -> Node:
    return Node("iq", {"type": kind, "id": query_id})


def test_answer_and_error_belong_to_their_question() -> None:
    queries = Queries[str]()
    first, second = asked(queries, "first"), asked(queries, "second")
    assert queries.answered(answer(second)) == "second"
    assert queries.answered(answer(first, "error")) == "first"


def test_question_is_answered_once() -> None:
    queries = Queries[str]()
    query_id = asked(queries, "first")
    queries.answered(answer(query_id))
    assert queries.answered(answer(query_id)) is None


def test_request_with_the_same_id_is_no_answer() -> None:
    queries = Queries[str]()
    query_id = asked(queries, "first")
    assert queries.answered(answer(query_id, "get")) is None
    assert queries.answered(answer(query_id)) == "first"


def test_answer_to_nothing_belongs_to_nobody() -> None:
    assert Queries[str]().answered(Node("iq", {"type": "result"})) is None


def test_deadline_is_the_earliest() -> None:
    queries = Queries[str]()
    assert queries.deadline() is None
    asked(queries, "slow")
    asked(queries, "quick", within_s=10.0)
    assert queries.deadline() == 10.0


def test_question_of_another_purpose_stays_on_the_list() -> None:
    queries = Queries[str]()
    first = asked(queries, "first")
    assert not queries.is_answered(answer(first), "second")
    assert not queries.is_answered(answer("another"), "first")
    assert not queries.is_answered(answer(first, "get"), "first")
    assert queries.is_answered(answer(first), "first")
    assert not queries.is_answered(answer(first), "first")


def test_expired_questions_are_taken_out() -> None:
    queries = Queries[str]()
    slow = asked(queries, "slow")
    asked(queries, "quick", within_s=10.0)
    assert queries.expired(9.9) == []
    assert queries.expired(10.0) == ["quick"]
    assert queries.expired(10.0) == []
    assert queries.deadline() == ANSWER_WITHIN_S
    assert queries.answered(answer(slow)) == "slow"


def test_new_connection_forgets_and_takes_new_ids() -> None:
    queries = Queries[str]()
    ids = {asked(queries, "old"), queries.next_id()}
    queries.reset()
    assert queries.deadline() is None
    ids |= {asked(queries, "new"), queries.next_id()}
    assert len(ids) == 4
