"""Registration, scanning, the companion's signature, what others hear of it, unlinking."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from sitpayd.simulator.linking import ScanError
from sitpayd.simulator.main import Simulator
from sitpayd.simulator.violations import Kind
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb
from sitpayd.whatsapp.stanzas import iq, login, pairing
from sitpayd.whatsapp.stanzas.notification import DevicesChanged, OwnDevices, parse_notification
from tests.simulator.conftest import QUICK, Start
from tests.support.companion import Companion, Wire, heard_by, kinds
from tests.support.matrix import Feature, proves

ALICE, BOB = "4915111111111", "4915122222222"


async def offered_refs(wire: Wire) -> list[str]:
    offered = await wire.expect("iq", type="set")
    await wire.send(iq.result(offered))
    return pairing.parse_pair_device(offered)


async def test_scanned_companion_logs_in_and_talks_with_a_phone_both_ways(sim: Simulator) -> None:
    alice, bob = sim.make_account(ALICE, "Alice"), sim.make_account(BOB, "Bob")
    companion = Companion(sim)
    await companion.link(ALICE)
    async with companion.online() as wire:
        ack = await companion.say(wire, bob.account.lid, "hello")
        assert ack.text("error") is None
        assert await heard_by(sim, BOB) == ["hello"]
        bob.send(alice.account, "hello back")
        heard = await companion.hear(wire)
        assert heard.content.text == "hello back"


async def test_six_refs_are_offered_as_bytes(sim: Simulator) -> None:
    async with Companion(sim).register() as wire:
        offered = await wire.expect("iq", type="set")
        refs = offered.required("pair-device").children
        assert len(refs) == 6
        assert all(ref.content.startswith(b"2@") for ref in refs if isinstance(ref.content, bytes))
        await wire.send(iq.result(offered))


async def test_pings_are_answered_while_the_code_is_shown(sim: Simulator) -> None:
    async with Companion(sim).register() as wire:
        await offered_refs(wire)
        answer = await wire.ask(iq.ping(wire.ids.next()))
        assert answer.text("type") == "result"


async def test_connection_ends_when_the_refs_have_run_out(start: Start) -> None:
    async with start(replace(QUICK, pairing_s=0.05)) as sim, Companion(sim).register() as wire:
        await offered_refs(wire)
        await wire.closed()


async def test_unknown_code_is_refused(sim: Simulator) -> None:
    alice = sim.make_account(ALICE)
    with pytest.raises(ScanError, match="no connection"):
        await alice.scan(pairing.qr_text("2@unknown", DeviceKeys.generate()))


async def test_text_that_is_no_code_is_refused(sim: Simulator) -> None:
    alice = sim.make_account(ALICE)
    with pytest.raises(ScanError) as refused:
        await alice.scan("https://example.com")
    assert refused.value.field == "qr"


async def test_code_with_a_foreign_noise_key_is_refused(sim: Simulator) -> None:
    alice, companion = sim.make_account(ALICE), Companion(sim)
    async with companion.register() as wire:
        refs = await offered_refs(wire)
        keys = replace(companion.keys, noise=KeyPair.generate())
        with pytest.raises(ScanError, match="Noise"):
            await alice.scan(pairing.qr_text(refs[0], keys))


async def test_code_without_address_and_platform_is_read_as_well(sim: Simulator) -> None:
    alice, companion = sim.make_account(ALICE), Companion(sim)
    async with companion.register() as wire, trio.open_nursery() as nursery:
        refs = await offered_refs(wire)
        text = pairing.qr_text(refs[5], companion.keys).partition("#")[2].rpartition(",")[0]
        nursery.start_soon(alice.scan, text)
        success = await wire.expect("iq", type="set")
        await wire.send(pairing.accept_pair_success(success, companion.keys)[1])
        await wire.expect("stream:error", code="515")


async def test_phone_learns_why_a_companion_refused(sim: Simulator) -> None:
    alice, companion = sim.make_account(ALICE), Companion(sim)
    async with companion.register() as wire, trio.open_nursery() as nursery:
        refs = await offered_refs(wire)

        async def scan() -> None:
            with pytest.raises(ScanError, match="401 hmac-mismatch"):
                await alice.scan(pairing.qr_text(refs[0], companion.keys))

        nursery.start_soon(scan)
        success = await wire.expect("iq", type="set")
        await wire.send(iq.error(success, 401, "hmac-mismatch"))


async def test_phone_learns_that_a_companion_went_away(sim: Simulator) -> None:
    alice, companion = sim.make_account(ALICE), Companion(sim)
    async with trio.open_nursery() as nursery, companion.register() as wire:
        refs = await offered_refs(wire)

        async def scan() -> None:
            with pytest.raises(ScanError, match="gone"):
                await alice.scan(pairing.qr_text(refs[0], companion.keys))

        nursery.start_soon(scan)
        await wire.expect("iq", type="set")
    assert not list(alice.account.companions)


async def test_second_phone_is_too_late(sim: Simulator) -> None:
    alice, bob, companion = sim.make_account(ALICE), sim.make_account(BOB), Companion(sim)
    async with companion.register() as wire, trio.open_nursery() as nursery:
        text = pairing.qr_text((await offered_refs(wire))[0], companion.keys)
        nursery.start_soon(alice.scan, text)
        success = await wire.expect("iq", type="set")
        with pytest.raises(ScanError, match="already"):
            await bob.scan(text)
        await wire.send(pairing.accept_pair_success(success, companion.keys)[1])
        await wire.expect("stream:error", code="515")


def payload_with(change: str) -> bytes:
    keys = DeviceKeys.generate()
    payload = pb.ClientPayload.FromString(login.registration_payload(keys, login.ClientInfo()))
    data = payload.devicePairingData
    match change:
        case "signature":
            data.eSkeySig = data.eSkeySig[:-1] + bytes((data.eSkeySig[-1] ^ 1,))
        case "build hash":
            data.buildHash = bytes(16)
        case "length":
            data.eIdent = data.eIdent[:31]
        case "id":
            data.eSkeyId = bytes(3)
    return payload.SerializeToString()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("signature", Kind.REGISTRATION),
        ("build hash", Kind.REGISTRATION),
        ("id", Kind.REGISTRATION),
        ("length", Kind.LOGIN),
    ],
)
@proves(Feature.SIGNATURES)
async def test_registration_that_does_not_verify_is_refused(
    sim: Simulator, change: str, kind: Kind
) -> None:
    async with Companion(sim).register(payload_with(change)) as wire:
        await wire.expect("failure", reason="400")
    assert kinds(sim) == [kind]


@proves(Feature.SIGNATURES)
async def test_reply_with_a_wrong_device_signature_is_a_violation(sim: Simulator) -> None:
    alice, companion = sim.make_account(ALICE), Companion(sim)
    async with companion.register() as wire, trio.open_nursery() as nursery:
        refs = await offered_refs(wire)

        async def scan() -> None:
            with pytest.raises(ScanError, match="signature"):
                await alice.scan(pairing.qr_text(refs[0], companion.keys))

        nursery.start_soon(scan)
        success = await wire.expect("iq", type="set")
        other = replace(companion.keys, identity=KeyPair.generate())
        _, reply = pairing.accept_pair_success(success, companion.keys)
        signed = pb.ADVSignedDeviceIdentity.FromString(
            reply.required("pair-device-sign").required("device-identity").data
        )
        signed.deviceSignature = other.signed_prekey.signature
        element = Node("device-identity", {"key-index": "1"}, signed.SerializeToString())
        await wire.send(iq.result(success, Node("pair-device-sign", {}, (element,))))
        await wire.closed()
    assert kinds(sim) == [Kind.PAIRING]


async def test_pair_device_that_is_not_answered_is_a_violation(start: Start) -> None:
    async with start(replace(QUICK, answer_s=0.05)) as sim, Companion(sim).register() as wire:
        await wire.expect("iq", type="set")
        sim.server.look_at_deadlines(trio.current_time() + 1)
        assert kinds(sim) == [Kind.UNANSWERED]


# --- what others hear ---


async def test_own_companion_hears_of_a_new_one(sim: Simulator) -> None:
    alice, first, second = sim.make_account(ALICE), Companion(sim), Companion(sim)
    await first.link(ALICE)
    async with first.online() as wire:
        await second.link(ALICE)
        node = await wire.expect("notification", type="account_sync")
        await wire.send(first.ack(node))
        devices = (alice.account.pn, first.identity.jid, second.identity.jid)
        assert parse_notification(node) == OwnDevices(
            devices, node.required("devices").text("dhash")
        )
        assert await first.devices(wire, alice.account.lid) == tuple(
            alice.account.lid.with_device(number) for number in (0, 1, 2)
        )


async def test_who_asked_for_devices_hears_of_changes(sim: Simulator) -> None:
    alice, bob = sim.make_account(ALICE), sim.make_account(BOB)
    theirs, watcher = Companion(sim), Companion(sim)
    await watcher.link(BOB)
    async with watcher.online() as wire:
        assert await watcher.devices(wire, alice.account.lid) == (alice.account.lid,)
        await theirs.link(ALICE)
        node = await wire.expect("notification", type="devices")
        changed = parse_notification(node)
        assert isinstance(changed, DevicesChanged)
        assert (changed.action, changed.devices[0].jid) == ("add", theirs.identity.jid)
        await wire.send(watcher.ack(node))
    assert alice.account.lid_user not in bob.device.told


async def test_unlinked_device_is_told_and_refused_afterwards(sim: Simulator) -> None:
    alice, companion = sim.make_account(ALICE), Companion(sim)
    await companion.link(ALICE)
    async with companion.online() as wire:
        device = sim.server.accounts.device(companion.identity.jid)
        assert device is not None
        sim.server.unlink(device)
        ended = await wire.expect("stream:error", code="401")
        assert ended.required("conflict").text("type") == "device_removed"
    async with companion.connect() as wire:
        await wire.expect("failure", reason="401")
    assert alice.account.numbers == {0}


async def test_device_unlinked_while_away_is_refused(sim: Simulator) -> None:
    sim.make_account(ALICE)
    companion = Companion(sim)
    await companion.link(ALICE)
    device = sim.server.accounts.device(companion.identity.jid)
    assert device is not None
    sim.server.unlink(device)
    async with companion.connect() as wire:
        await wire.expect("failure", reason="401")


async def test_device_that_logs_out_gets_its_result_first(sim: Simulator) -> None:
    alice, companion = sim.make_account(ALICE), Companion(sim)
    await companion.link(ALICE)
    async with companion.online() as wire:
        answer = await wire.ask(iq.logout(wire.ids.next(), companion.identity.jid))
        assert answer.text("type") == "result"
        await wire.closed()
    assert alice.account.numbers == {0}


async def test_number_of_a_removed_device_is_never_given_again(sim: Simulator) -> None:
    sim.make_account(ALICE)
    first, second = Companion(sim), Companion(sim)
    await first.link(ALICE)
    device = sim.server.accounts.device(first.identity.jid)
    assert device is not None
    sim.server.unlink(device)
    await second.link(ALICE)
    assert second.identity.jid.device == 2


async def test_device_list_is_signed_by_the_phone(sim: Simulator) -> None:
    alice, companion = sim.make_account(ALICE), Companion(sim)
    await companion.link(ALICE)
    assert alice.account.key_index_list is not None
    signed = pb.ADVSignedKeyIndexList.FromString(alice.account.key_index_list[0])
    details = pb.ADVKeyIndexList.FromString(signed.details)
    assert (details.currentIndex, list(details.validIndexes)) == (1, [1])
