"""The HTTP control API, over its real port."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import trio

from sitpayd.simulator.main import Simulator, run_simulator
from sitpayd.whatsapp.jid import pn
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, pairing, receipt
from sitpayd.whatsapp.stanzas.presence import own_chat_state, own_presence
from tests.simulator.conftest import QUICK
from tests.simulator.test_pairing_codes import OFFER, registered
from tests.simulator.test_routing import ALICE, BOB, linked
from tests.simulator.test_sightings import sees_nothing
from tests.support.companion import PATIENCE_S, Companion, kinds
from tests.support.waiting import eventually


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator.start(QUICK, control_port=0) as running:
        yield running
        assert running.server.violations.broken == []


@pytest.fixture
async def control(sim: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    assert sim.control_url is not None
    async with httpx.AsyncClient(base_url=sim.control_url, timeout=PATIENCE_S) as client:
        yield client


async def test_root_tells_what_this_is_and_its_routes(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    answer = (await control.get("/")).json()
    assert answer["root_key"] == sim.root_key.hex()
    assert "POST /accounts/<number>/scan" in answer["routes"]


async def test_account_is_made_listed_and_shown(control: httpx.AsyncClient) -> None:
    made = await control.post("/accounts", json={"phone": f"+{ALICE}", "name": "Alice"})
    assert made.status_code == 201
    account = made.json()
    assert account["phone"] == ALICE
    assert account["devices"] == [f"{ALICE}@s.whatsapp.net"]
    assert (await control.get("/accounts")).json() == [account]
    assert (await control.get(f"/accounts/{ALICE}")).json() == account


async def test_number_is_chosen_if_none_is_given(control: httpx.AsyncClient) -> None:
    made = await control.post("/accounts")
    assert made.json()["phone"].isdigit()


async def test_person_types_a_pairing_code(sim: Simulator, control: httpx.AsyncClient) -> None:
    await control.post("/accounts", json={"phone": ALICE})
    async with registered(sim) as coded, trio.open_nursery() as nursery:
        await coded.ask()

        async def enter() -> None:
            path = f"/accounts/{ALICE}/enter-code"
            answer = await control.post(path, json={"code": OFFER.shown})
            assert answer.json()["jid"] == f"{ALICE}:1@s.whatsapp.net"

        nursery.start_soon(enter)
        agreed = await coded.agree()
        await coded.finish(agreed)
        await coded.sign(agreed)


async def test_code_that_nobody_waits_for_is_refused_by_field(control: httpx.AsyncClient) -> None:
    await control.post("/accounts", json={"phone": ALICE})
    answer = await control.post(f"/accounts/{ALICE}/enter-code", json={"code": "ABCD-EFGH"})
    assert (answer.status_code, answer.json()["field"]) == (422, "code")


async def test_phone_scans_and_talks_with_a_companion(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    for number in (ALICE, BOB):
        await control.post("/accounts", json={"phone": number})
    companion = Companion(sim)
    async with companion.register() as wire, trio.open_nursery() as nursery:
        offered = await wire.expect("iq", type="set")
        refs = pairing.parse_pair_device(offered)
        await wire.send(iq.result(offered))

        async def scan() -> None:
            text = pairing.qr_text(refs[0], companion.keys)
            answer = await control.post(f"/accounts/{ALICE}/scan", json={"qr": text})
            assert answer.json()["jid"] == f"{ALICE}:1@s.whatsapp.net"

        nursery.start_soon(scan)
        success = await wire.expect("iq", type="set")
        companion.paired, reply = pairing.accept_pair_success(success, companion.keys)
        await wire.send(reply)
        await wire.expect("stream:error")
    async with companion.online() as wire:
        sent = await control.post(f"/accounts/{BOB}/messages", json={"to": ALICE, "text": "hi"})
        heard = await companion.hear(wire)
        assert heard.node.text("id") == sent.json()["id"]
        ack = await companion.say(wire, sim.phone(BOB).account.lid, "hello")
        (received,) = (await control.get(f"/accounts/{BOB}/inbox", params={"wait": 5})).json()
        assert (received["peer"], received["text"], received["from_me"]) == (ALICE, "hello", False)
        after = {"after": received["seq"]}
        assert (await control.get(f"/accounts/{BOB}/inbox", params=after)).json() == []
        read = await control.post(f"/accounts/{BOB}/read", json={"id": received["id"]})
        assert read.status_code == 200
        await wire.expect("receipt", type="read")
        entry = (await control.get(f"/messages/{ack.text('id')}")).json()
        assert entry["copies"][f"{BOB}@s.whatsapp.net"]["receipts"] == ["delivered", "read"]


async def test_devices_are_listed_dropped_ended_and_unlinked(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    async with linked(sim) as (companion, wire):
        (device,) = (await control.get("/devices")).json()
        assert (device["jid"], device["connected"]) == (str(companion.identity.jid), True)
        path = f"/devices/{device['jid']}"
        assert (await control.post(f"{path}/ping")).status_code == 200
        await wire.send(iq.result(await wire.expect("iq", xmlns="urn:xmpp:ping")))
        await wire.handled()
        await control.post(f"{path}/drop")
        await wire.closed()
    async with companion.online() as wire:
        await control.post(f"{path}/stream-error", json={"code": 503})
        await wire.expect("stream:error", code="503")
        await wire.closed()
    assert (await control.get(path)).json()["state"] == "offline"
    assert (await control.post(f"{path}/drop")).status_code == 409
    await control.post(f"{path}/fail-next-login", json={"reason": 503})
    async with companion.connect() as wire:
        await wire.expect("failure", reason="503")
    async with companion.online() as wire:
        assert (await control.delete(f"/devices/{ALICE}:1")).status_code == 200
        await wire.expect("stream:error", code="401")
    assert (await control.get(path)).status_code == 404


async def test_faults_are_added_listed_and_cleared(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    async with linked(sim):
        body = {"kind": "nack", "device": f"{ALICE}:1", "code": 463, "count": 2}
        made = await control.post("/faults", json=body)
        assert made.status_code == 201
        (fault,) = (await control.get("/faults")).json()
        assert (fault["kind"], fault["number"], fault["device"]) == ("nack", ALICE, 1)
        await control.delete("/faults")
        assert (await control.get("/faults")).json() == []


async def test_fault_can_be_rare(control: httpx.AsyncClient) -> None:
    body = {"kind": "lose", "count": 1_000_000, "per_mille": 20, "seed": 7}
    assert (await control.post("/faults", json=body)).status_code == 201
    (fault,) = (await control.get("/faults")).json()
    assert (fault["per_mille"], fault["seed"]) == (20, 7)


async def test_messages_and_sendings_are_counted(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        node = await companion.stanza(wire, bob.account.lid, "twice")
        await wire.send(node)
        await wire.expect("ack", id=node.required_text("id"))
        before = (await control.get("/messages")).json()
        await wire.send(node)
        await wire.expect("ack", id=node.required_text("id"))
        after = (await control.get("/messages")).json()
    assert after["messages"] == before["messages"]
    assert after["sendings"] == before["sendings"] + 1


async def test_options_are_changed_while_it_runs(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    change = {"pn_refusal": 463, "ping_s": 30, "repeats": "deliver", "window": 2, "idle_s": 1.5}
    change["resumption"] = "refuse"
    answer = (await control.patch("/options", json=change)).json()
    assert answer == (await control.get("/options")).json()
    assert answer.items() >= change.items()
    assert sim.server.router.options.pn_refusal == 463
    assert (await control.patch("/options", json={"ping_s": None})).json()["ping_s"] is None


async def test_server_takes_new_keys_under_the_same_root(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    before = sim.server.keys
    assert (await control.post("/keys")).status_code == 200
    assert sim.server.keys.static != before.static
    async with linked(sim) as (companion, _):
        jid = f"{companion.identity.jid}"
        assert (await control.get(f"/devices/{jid}")).json()["handshake"] == "xx"


async def test_violations_are_listed_and_cleared(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    async with linked(sim) as (companion, wire):
        ghost = Node("notification", {"id": "1", "from": pn(BOB), "type": "picture"})
        await wire.send(companion.ack(ghost))
        await wire.handled()
        found = (await control.get("/violations")).json()["violations"]
        assert [violation["kind"] for violation in found] == ["unexpected"]
        await control.delete("/violations")
        assert kinds(sim) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/accounts", {"phone": "12a"}, 422, "phone"),
        ("POST", "/accounts", {"phone": 12}, 422, "phone"),
        ("POST", "/accounts", {"phone": BOB}, 409, "phone"),
        ("POST", "/accounts", [], 400, None),
        ("POST", f"/accounts/{ALICE}/scan", {"qr": "x"}, 404, "phone"),
        ("POST", f"/accounts/{BOB}/scan", {}, 422, "qr"),
        ("POST", f"/accounts/{BOB}/scan", {"qr": "x"}, 422, "qr"),
        ("POST", f"/accounts/{BOB}/messages", {"to": ALICE, "text": "x"}, 404, "to"),
        ("POST", f"/accounts/{BOB}/messages", {"to": BOB}, 422, "text"),
        (
            "POST",
            f"/accounts/{BOB}/messages",
            {"to": BOB, "text": "x", "addressing": "x"},
            422,
            "addressing",
        ),
        ("POST", f"/accounts/{BOB}/read", {"id": "x"}, 404, "id"),
        ("GET", f"/accounts/{BOB}/inbox?after=x", None, 422, "after"),
        ("GET", f"/accounts/{BOB}/inbox?wait=x", None, 422, "wait"),
        ("GET", f"/accounts/{BOB}/inbox?wait=inf", None, 422, "wait"),
        ("GET", "/devices/nobody:1", None, 404, "jid"),
        ("GET", "/devices/a:b", None, 422, "jid"),
        ("DELETE", f"/devices/{BOB}", None, 409, "jid"),
        ("POST", "/faults", {"kind": "x"}, 422, "kind"),
        ("POST", "/faults", {"kind": "nack", "count": -1}, 422, "count"),
        ("POST", "/faults", {"kind": "nack", "seconds": "x"}, 422, "seconds"),
        ("PATCH", "/options", {"speed": 1}, 422, "speed"),
        ("PATCH", "/options", {"repeats": "maybe"}, 422, "repeats"),
        ("PATCH", "/options", {"idle_s": None}, 422, "idle_s"),
        ("PATCH", "/options", {"window": 0}, 422, "window"),
        ("GET", "/messages/x", None, 404, "id"),
        ("GET", "/nowhere", None, 404, None),
        ("PUT", "/accounts", None, 405, None),
    ],
)
async def test_wrong_request_names_its_field(
    sim: Simulator,
    control: httpx.AsyncClient,
    method: str,
    path: str,
    body: object,
    status: int,
    field: str | None,
) -> None:
    sim.make_account(BOB)
    answer = await control.request(method, path, json=body)
    assert answer.status_code == status
    assert answer.json()["type"] == "error"
    assert answer.json()["field"] == field


async def test_malformed_json_is_refused(control: httpx.AsyncClient) -> None:
    answer = await control.post("/faults", content=b"{")
    assert answer.status_code == 400


async def test_simulator_announces_its_addresses_once() -> None:
    told: list[dict[str, str]] = []
    async with trio.open_nursery() as nursery:

        def announce(addresses: dict[str, str]) -> None:
            told.append(addresses)
            nursery.cancel_scope.cancel()

        with trio.fail_after(PATIENCE_S):
            await run_simulator("127.0.0.1", 0, 0, announce=announce)
    (addresses,) = told
    assert list(addresses) == ["url", "root_key", "control"]
    assert len(bytes.fromhex(addresses["root_key"])) == 32


async def test_simulator_listens_on_loopback_only() -> None:
    with pytest.raises(ValueError, match="loopback"):
        await run_simulator("0.0.0.0", 0, 0, announce=lambda _: None)


async def test_people_appear_online_type_and_see_others(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    async with linked(sim) as (_, wire), linked(sim, BOB) as (_, _):
        await wire.send(own_presence("Alice", available=True))
        await wire.send(own_chat_state(pn(BOB), "composing"))
        await wire.handled()
        alice = (await control.get(f"/accounts/{ALICE}/presence")).json()
        assert alice == {"available": True, "name": "Alice", "chat_states": []}
        bob = (await control.get(f"/accounts/{BOB}/presence")).json()
        (seen,) = bob["chat_states"]
        assert (bob["available"], bob["name"]) == (False, None)
        assert (seen["seq"], seen["peer"], seen["state"]) == (1, ALICE, "composing")

        typing = {"to": ALICE, "state": "recording"}
        await control.post(f"/accounts/{BOB}/typing", json=typing)
        assert await sees_nothing(wire)
        await wire.send(Node("presence", {"type": "subscribe", "to": pn(BOB)}))
        assert (await wire.expect("presence")).text("type") == "unavailable"
        await control.post(f"/accounts/{BOB}/presence", json={"available": True})
        assert (await wire.expect("presence")).text("type") is None
        await control.post(f"/accounts/{BOB}/typing", json=typing)
        shown = await wire.expect("chatstate")
        assert shown.jid("from") == sim.phone(BOB).account.lid
        for body, field in (({"to": ALICE, "state": "dancing"}, "state"), ({"to": "1"}, "to")):
            refused = await control.post(f"/accounts/{BOB}/typing", json=body)
            assert (refused.is_client_error, refused.json()["field"]) == (True, field)
        refused = await control.post(f"/accounts/{BOB}/presence", json={"available": 1})
        assert refused.json()["field"] == "available"


async def test_phone_tells_what_became_of_its_messages(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        id = sim.phone(BOB).send(sim.phone(ALICE).account, "hi")
        heard = await companion.hear(wire)
        await wire.send(receipt.read([id], heard.node.required_jid("from").bare, t=1))
        await wire.expect("ack", id=id, type="read")
        answer = (await control.get(f"/accounts/{BOB}/receipts/{id}")).json()
        assert "read" in answer
        assert (await control.get(f"/accounts/{BOB}/receipts/nothing")).json() == []


# --- what happens to people ---


async def test_treatment_of_an_account_is_changed(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    account = sim.make_account(BOB).account
    path = f"/accounts/{BOB}"
    assert (await control.patch(path, json={"lid_refusal": 479})).is_success
    assert (account.lid_refusal, account.lid_is_hidden) == (479, False)
    assert (await control.patch(path, json={"lid_is_hidden": True})).is_success
    assert (account.lid_refusal, account.lid_is_hidden) == (479, True)
    changes = {"lid_refusal": None, "lid_is_hidden": False}
    assert (await control.patch(path, json=changes)).is_success
    assert (account.lid_refusal, account.lid_is_hidden) == (None, False)


@pytest.mark.parametrize(
    ("body", "field"),
    [({"name": "x"}, "name"), ({"lid_refusal": "x"}, "lid_refusal"), ({"lid_is_hidden": 1}, None)],
)
async def test_change_that_is_none_is_refused_by_field(
    sim: Simulator, control: httpx.AsyncClient, body: dict[str, object], field: str | None
) -> None:
    account = sim.make_account(BOB).account
    answer = await control.patch(f"/accounts/{BOB}", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field or "lid_is_hidden")
    assert (account.lid_refusal, account.lid_is_hidden) == (None, False)


async def test_companion_is_added_reads_and_is_removed(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    alice, bob = sim.make_account(ALICE), sim.make_account(BOB)
    added = await control.post(f"/accounts/{BOB}/companions")
    assert added.status_code == 201
    assert (added.json()["jid"], added.json()["state"]) == (f"{BOB}:1@s.whatsapp.net", "offline")
    alice.send(bob.account, "hello")

    async def look() -> list[dict[str, object]] | None:
        return (await control.get(f"/devices/{BOB}:1/inbox")).json() or None

    inbox = await eventually(look, "the companion reads it")
    assert [item["text"] for item in inbox] == ["hello"]
    assert (await control.get(f"/devices/{BOB}:1/inbox?after=1")).json() == []
    answer = {"to": ALICE, "text": "hello yourself"}
    said = await control.post(f"/devices/{BOB}:1/messages", json=answer)
    heard = (await control.get(f"/accounts/{ALICE}/inbox?wait=5")).json()
    assert [(item["id"], item["text"]) for item in heard] == [(said.json()["id"], answer["text"])]
    assert (await control.delete(f"/devices/{BOB}:1")).is_success
    assert (await control.get(f"/devices/{BOB}:1/inbox")).status_code == 404


async def test_account_has_one_device_in_the_cloud(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    sim.make_account(BOB)
    path = f"/accounts/{BOB}/companions"
    added = await control.post(path, json={"hosted": True})
    assert added.json()["jid"] == f"{BOB}:99@hosted"
    again = await control.post(path, json={"hosted": True})
    assert (again.status_code, again.json()["field"]) == (409, "hosted")


async def test_inbox_of_a_client_is_its_own_affair(
    sim: Simulator, control: httpx.AsyncClient
) -> None:
    async with linked(sim):
        answer = await control.get(f"/devices/{ALICE}:1/inbox")
        said = await control.post(f"/devices/{ALICE}:1/messages", json={})
        assert said.status_code == 409
        assert (answer.status_code, answer.json()["field"]) == (409, "jid")


async def test_person_begins_on_a_new_phone(sim: Simulator, control: httpx.AsyncClient) -> None:
    phone = sim.make_account(BOB)
    before = phone.device.identity
    sim.server.add_companion(phone)
    shown = (await control.post(f"/accounts/{BOB}/reinstall")).json()
    assert shown["devices"] == [f"{BOB}@s.whatsapp.net"]
    assert phone.device.identity != before
