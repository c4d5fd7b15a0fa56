"""Certificate chains as hostile servers make them, and a judge that is not ours.

The judge knows the seven checks from the protocol's description and nothing of noise.py.
"""

from __future__ import annotations

from random import Random
from typing import Final

import xeddsa
from google.protobuf.message import DecodeError

from sitpayd.whatsapp.crypto import sign
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.schema.whatsapp_pb2 import CertChain
from tests.fuzz.people import NOW, ROOT, steady
from tests.fuzz.protos import grown

Details = CertChain.NoiseCertificate.Details

DAY_S: Final = 86_400
SKEW_S: Final = 3600

with steady("certificates"):
    STATIC: Final = KeyPair.generate()
    INTERMEDIATE: Final = KeyPair.generate()


def leaf_details() -> Details:
    """What the leaf of a good chain says."""
    return Details(
        serial=2,
        issuerSerial=1,
        key=STATIC.public_key,
        notBefore=int(NOW) - DAY_S,
        notAfter=int(NOW) + DAY_S,
    )


def intermediate_details() -> Details:
    """What the intermediate of a good chain says."""
    return Details(
        serial=1,
        issuerSerial=0,
        key=INTERMEDIATE.public_key,
        notBefore=int(NOW) - DAY_S,
        notAfter=int(NOW) + DAY_S,
    )


def chain(leaf: bytes, intermediate: bytes) -> bytes:
    """Sign these details as a chain, whatever they say."""
    return CertChain(
        leaf=CertChain.NoiseCertificate(
            details=leaf, signature=sign(INTERMEDIATE.private_key, leaf)
        ),
        intermediate=CertChain.NoiseCertificate(
            details=intermediate, signature=sign(ROOT.private_key, intermediate)
        ),
    ).SerializeToString()


def good_chain() -> bytes:
    """One that is accepted, the same each time."""
    with steady("chain"):
        return chain(leaf_details().SerializeToString(), intermediate_details().SerializeToString())


def bad_chains() -> list[bytes]:
    """One for each of the seven checks, and good in all else."""
    leaf, intermediate = leaf_details(), intermediate_details()
    good_leaf, good_intermediate = leaf.SerializeToString(), intermediate.SerializeToString()
    with steady("bad chains"):
        good = CertChain.FromString(chain(good_leaf, good_intermediate))
        unsigned, crossed, stranger = CertChain(), CertChain(), CertChain()
        for made in (unsigned, crossed, stranger):
            made.CopyFrom(good)
        unsigned.leaf.ClearField("signature")
        crossed.leaf.signature = sign(ROOT.private_key, good_leaf)
        stranger.intermediate.signature = sign(STATIC.private_key, good_intermediate)
        return [
            unsigned.SerializeToString(),
            stranger.SerializeToString(),
            chain(good_leaf, _changed(intermediate, issuerSerial=1)),
            crossed.SerializeToString(),
            chain(_changed(leaf, issuerSerial=7), good_intermediate),
            chain(_changed(leaf, key=INTERMEDIATE.public_key), good_intermediate),
            chain(_changed(leaf, notAfter=int(NOW) - DAY_S), good_intermediate),
        ]


def _changed(details: Details, **fields: int | bytes) -> bytes:
    copy = Details()
    copy.CopyFrom(details)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy.SerializeToString()


def signed_anew(rng: Random, payload: bytes) -> bytes:
    """Change what a chain says, and sign it all the same: a thief of the keys could."""
    try:
        parsed = CertChain.FromString(payload)
    except DecodeError:
        return payload
    leaf, intermediate = parsed.leaf.details, parsed.intermediate.details
    if rng.random() < 0.5:
        leaf = grown(rng, Details, leaf)
    else:
        intermediate = grown(rng, Details, intermediate)
    with steady(str(rng.random())):
        return chain(leaf, intermediate)


def is_good(payload: bytes, static: bytes, root_key: bytes, now: float) -> bool:
    """Judge a chain by the seven checks."""
    try:
        parsed = CertChain.FromString(payload)
        leaf = Details.FromString(parsed.leaf.details)
        intermediate = Details.FromString(parsed.intermediate.details)
    except DecodeError:
        return False
    lengths = [len(parsed.leaf.signature), len(parsed.intermediate.signature)]
    if lengths != [64, 64] or [len(leaf.key), len(intermediate.key)] != [32, 32]:
        return False
    return (
        bool(parsed.leaf.details and parsed.intermediate.details)
        and _signed(root_key, parsed.intermediate)
        and intermediate.issuerSerial == 0
        and _signed(intermediate.key, parsed.leaf)
        and leaf.issuerSerial == intermediate.serial
        and leaf.key == static
        and all(
            details.notBefore - SKEW_S <= now <= details.notAfter + SKEW_S
            for details in (leaf, intermediate)
        )
    )


def _signed(public_key: bytes, certificate: CertChain.NoiseCertificate) -> bool:
    signature = certificate.signature
    sign_bit = bool(signature[63] & 0x80)
    try:
        edwards = xeddsa.curve25519_pub_to_ed25519_pub(public_key, sign_bit)
        plain = signature[:63] + bytes((signature[63] & 0x7F,))
        return bool(xeddsa.ed25519_verify(plain, edwards, certificate.details))
    except (xeddsa.XEdDSAException, ValueError):
        return False
