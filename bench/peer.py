"""Peer: many connections of Baileys, unmodified, in one Node process, at rest.

They log in as companions that the simulator seeded, so that the same server and the same kind of
device stand on both sides of the comparison.
"""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from bench.fleet import FIRST_OWNER
from bench.processes import BenchError, cpu_s, rss_kib
from bench.stand import Stand
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.keys import KeyPair

DRIVER: Final = Path(__file__).parent / "baileys.mjs"
CONNECTED_WITHIN_S: Final = 60.0
# Baileys holds its events back for 20 s after a login.
SETTLE_S: Final = 25.0


@dataclass(frozen=True, slots=True)
class PeerCrowd:
    """Connections at rest; memory is KiB for each beyond a process with none, CPU of one core."""

    version: str
    connections: int
    kib_each: float
    rss_mib: float
    idle_s: float
    cpu_percent: float


async def crowd_of_peers(stand: Stand, count: int, idle_s: float) -> PeerCrowd:
    """Let so many connections rest; those of the simulator of this stand."""
    made = await stand.control.post("/devices", {"first": str(FIRST_OWNER), "count": count})
    devices = made["devices"]
    assert isinstance(devices, list)
    path = stand.directory / "companions.json"
    path.write_text(json.dumps([_for_baileys(device["credentials"]) for device in devices]))
    log = (stand.directory / "baileys.log").open("wb")
    with log:
        process = await trio.lowlevel.open_process(
            ["node", str(DRIVER), stand.environment["SITPAYD_WHATSAPP_URL"], str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        return await _rest(stand, process, count, idle_s)
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


async def _rest(stand: Stand, process: trio.Process, count: int, idle_s: float) -> PeerCrowd:
    assert process.stdin is not None
    assert process.stdout is not None
    version = (await _line(process.stdout)).strip()
    empty = rss_kib(process.pid)
    await process.stdin.send_all(b"connect\n")
    with trio.move_on_after(CONNECTED_WITHIN_S) as scope:
        await stand.until_connected(count)
    if scope.cancelled_caught:
        raise BenchError("the connections of Baileys did not all come up")
    await trio.sleep(SETTLE_S)
    rss, cpu, began = rss_kib(process.pid), cpu_s(process.pid), trio.current_time()
    await trio.sleep(idle_s)
    seconds = trio.current_time() - began
    return PeerCrowd(
        version=version,
        connections=count,
        kib_each=(rss - empty) / count,
        rss_mib=rss / 1024,
        idle_s=seconds,
        cpu_percent=100 * (cpu_s(process.pid) - cpu) / seconds,
    )


async def _line(stream: trio.abc.ReceiveStream) -> str:
    data = b""
    while not data.endswith(b"\n"):
        more = await stream.receive_some()
        if not more:
            raise BenchError("Baileys ended at its start: is it installed (make test does that)?")
        data += more
    return data.decode()


def _for_baileys(told: str) -> dict[str, object]:
    """The same credentials under the names Baileys has for them; bytes as base64."""
    credentials = Credentials.from_bytes(base64.b64decode(told))
    keys, paired = credentials.keys, credentials.paired
    assert paired is not None
    return {
        "noiseKey": _pair(keys.noise),
        "signedIdentityKey": _pair(keys.identity),
        "signedPreKey": {
            "keyPair": _pair(keys.signed_prekey.key_pair),
            "signature": _text(keys.signed_prekey.signature),
            "keyId": keys.signed_prekey.key_id,
        },
        "registrationId": keys.registration_id,
        "advSecretKey": _text(keys.adv_secret),
        "me": {"id": str(paired.jid), "lid": str(paired.lid)},
        "account": _text(paired.signed_identity),
        "platform": paired.platform,
    }


def _pair(pair: KeyPair) -> dict[str, str]:
    return {"private": _text(pair.private_key), "public": _text(pair.public_key)}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
