"""Linking a device by a code of eight characters that a person types on the phone.

Theory of operation. The code is a weak secret, used once: a slow hash of it encrypts the ephemeral
key of either side (`hello`), so that both can agree on a strong secret through a server that does
not know the code. Under that secret the companion sends the phone its identity key, the phone's
identity key as it saw it and 32 random bytes (`finish`). From both agreements and these bytes each
side derives a new adv secret; from then on `pair-success` goes as after a QR code, which is void
now. A wrong code cannot be told from a right one by the companion: the phone cannot open what it
is sent, and nothing follows.

Both roles are here. What takes a tenth of a second, for a thread, says so.

Source: whatsmeow pair-code.go; Baileys lib/Socket/socket.js, lib/Socket/messages-recv.js.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ..crypto import (
    KEY_LEN,
    aes_ctr,
    aes_gcm_decrypt,
    aes_gcm_encrypt,
    equal,
    exchange,
    hkdf,
    pbkdf2,
)
from ..errors import RemoteProtocolError
from ..jid import PN_SERVER, SERVER_JID, Jid, pn
from ..keys import KeyPair
from ..node import Attr, Node
from . import iq
from .wire import attributes, leaf, parse_public_key, text_content

# Without the characters that are taken for each other.
ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTVWXYZ"
CODE_LEN: Final = 8
NOTIFICATION_TYPE: Final = "link_code_companion_reg"

_CODE_BYTES: Final = 5
_CHARACTER_BITS: Final = 5
_ITERATIONS: Final = 131_072
_SALT_LEN: Final = 32
_IV_LEN: Final = 16
_NONCE_LEN: Final = 12
_TAG_LEN: Final = 16
_RANDOM_LEN: Final = 32
_WRAPPED_LEN: Final = _SALT_LEN + _IV_LEN + KEY_LEN
_BUNDLE_LEN: Final = _SALT_LEN + _NONCE_LEN + 2 * KEY_LEN + _RANDOM_LEN + _TAG_LEN
_BUNDLE_INFO: Final = b"link_code_pairing_key_bundle_encryption_key"
_ADV_INFO: Final = b"adv_secret"
# Chrome, as in the QR code (pairing.py). The server checks the display name's form and words.
_PLATFORM_ID: Final = "1"
_BROWSER: Final = "Chrome"
_ELEMENT: Final = "link_code_companion_reg"
_HELLO: Final = "companion_hello"
_FINISH: Final = "companion_finish"

Draw = Callable[[int], bytes]
"""Random bytes, so many."""


@dataclass(frozen=True, slots=True)
class CodeOffer:
    """A companion's half of one attempt.

    Attributes:
        code: eight characters, the secret.
        ephemeral: made for this attempt alone.
        wrapped: its public half under the code, 80 bytes: salt, IV, ciphertext.
    """

    code: str = field(repr=False)
    ephemeral: KeyPair
    wrapped: bytes

    @property
    def shown(self) -> str:
        """The code as people read it: ABCD-EFGH."""
        return f"{self.code[:4]}-{self.code[4:]}"


@dataclass(frozen=True, slots=True)
class CompanionHello:
    """What the server learns of a code.

    Attributes:
        phone: the account's number, without device.
        wrapped: the companion's ephemeral key under the code, 80 bytes.
        noise: the companion's Noise key, 32 bytes.
        display: how the phone shows the companion, `Browser (OS)`.
    """

    phone: Jid
    wrapped: bytes
    noise: bytes
    display: str


@dataclass(frozen=True, slots=True)
class PrimaryHello:
    """What the phone says once the code is typed.

    Attributes:
        ref: names the attempt.
        wrapped: the phone's ephemeral key under the code it was given, 80 bytes.
        identity: the phone's identity key, 32 bytes.
    """

    ref: bytes
    wrapped: bytes
    identity: bytes


@dataclass(frozen=True, slots=True)
class CompanionFinish:
    """What the companion answers.

    Attributes:
        bundle: its identity and the random bytes for the phone, 156 bytes: salt, nonce, ciphertext.
        identity: its identity key, 32 bytes.
        ref: names the attempt.
    """

    bundle: bytes
    identity: bytes
    ref: bytes


@dataclass(frozen=True, slots=True)
class Agreed:
    """A companion's answer, and what it has agreed on with whoever typed the code.

    Attributes:
        adv_secret: 32 bytes; takes the place of the one in the QR codes.
        primary: the phone's identity key, 32 bytes; `pair-success` must be signed with it.
    """

    finish: CompanionFinish
    adv_secret: bytes = field(repr=False)
    primary: bytes


# --- the code ---


def code_of(data: bytes) -> str:
    """Write 5 bytes as eight characters, 5 bits each, the most significant first."""
    number = int.from_bytes(data, "big")
    shifts = range(_CHARACTER_BITS * (CODE_LEN - 1), -1, -_CHARACTER_BITS)
    return "".join(ALPHABET[number >> shift & (len(ALPHABET) - 1)] for shift in shifts)


def parse_code(text: str) -> str:
    """Read a code as a person types it.

    Raises:
        RemoteProtocolError: If it is not eight characters of the alphabet.
    """
    code = text.replace("-", "").replace(" ", "").upper()
    if len(code) != CODE_LEN or not set(code) <= set(ALPHABET):
        raise RemoteProtocolError("not a pairing code")
    return code


def display_name(os_name: str) -> str:
    """How the phone shows a companion that runs on this system."""
    return f"{_BROWSER} ({os_name})"


# --- the companion ---


def new_offer(draw: Draw = secrets.token_bytes) -> CodeOffer:
    """Make a code and what belongs to it; for a thread."""
    return offer_of(code_of(draw(_CODE_BYTES)), KeyPair.generate(), draw)


def offer_of(code: str, ephemeral: KeyPair, draw: Draw = secrets.token_bytes) -> CodeOffer:
    """Make the offer of this code and this key; for a thread."""
    return CodeOffer(code, ephemeral, _wrap(code, ephemeral.public_key, draw))


def companion_hello(id: str, phone: str, offer: CodeOffer, noise: bytes, display: str) -> Node:
    """Tell the server that this number's owner is going to type a code; answered with a ref.

    Args:
        phone: digits, international form.
        noise: our Noise key, 32 bytes.
        display: from `display_name`.
    """
    children = (
        leaf("link_code_pairing_wrapped_companion_ephemeral_pub", offer.wrapped),
        leaf("companion_server_auth_key_pub", noise),
        leaf("companion_platform_id", _PLATFORM_ID.encode()),
        leaf("companion_platform_display", display.encode()),
        leaf("link_code_pairing_nonce", b"\0"),
    )
    attrs: dict[str, Attr] = {
        "jid": pn(phone),
        "stage": _HELLO,
        "should_show_push_notification": "true",
    }
    return iq.set_("md", Node(_ELEMENT, attrs, children), id=id)


def parse_ref(node: Node) -> bytes:
    """The ref in the server's answer to the hello.

    Raises:
        RemoteProtocolError: If there is none.
    """
    return _ref(node.required(_ELEMENT))


def parse_primary_hello(node: Node) -> PrimaryHello:
    """Read the notification that says that the code was typed.

    Raises:
        RemoteProtocolError: If it is malformed or does not come from the server.
    """
    if node.required_jid("from") != SERVER_JID:
        raise RemoteProtocolError("a pairing code of nobody's server")
    element = node.required(_ELEMENT)
    wrapped = element.data_of("link_code_pairing_wrapped_primary_ephemeral_pub")
    if len(wrapped) < _WRAPPED_LEN:
        raise RemoteProtocolError("a wrapped key is too short")
    identity = parse_public_key(element, "primary_identity_pub")
    return PrimaryHello(_ref(element), wrapped[:_WRAPPED_LEN], identity)


def agree(
    offer: CodeOffer, hello: PrimaryHello, identity: KeyPair, draw: Draw = secrets.token_bytes
) -> Agreed:
    """Answer the phone; for a thread.

    Args:
        identity: our identity key pair.

    Raises:
        RemoteProtocolError: If a key of the phone is unusable.
    """
    ephemeral_secret = exchange(offer.ephemeral.private_key, _unwrap(offer.code, hello.wrapped))
    random, salt, nonce = draw(_RANDOM_LEN), draw(_SALT_LEN), draw(_NONCE_LEN)
    sealed = aes_gcm_encrypt(
        _bundle_key(ephemeral_secret, salt), nonce, identity.public_key + hello.identity + random
    )
    identity_secret = exchange(identity.private_key, hello.identity)
    finish = CompanionFinish(salt + nonce + sealed, identity.public_key, hello.ref)
    return Agreed(finish, _adv_secret(ephemeral_secret, identity_secret, random), hello.identity)


def companion_finish(id: str, phone: str, finish: CompanionFinish) -> Node:
    """Send the phone, through the server, what it needs to sign this device.

    Args:
        phone: digits, as in the hello.
    """
    children = (
        leaf("link_code_pairing_wrapped_key_bundle", finish.bundle),
        leaf("companion_identity_public", finish.identity),
        leaf("link_code_pairing_ref", finish.ref),
    )
    return iq.set_("md", Node(_ELEMENT, {"jid": pn(phone), "stage": _FINISH}, children), id=id)


# --- the server and the phone ---


def is_pairing_code(node: Node) -> bool:
    """Whether this request of a companion belongs to a pairing code."""
    return node.child(_ELEMENT) is not None


def parse_companion(node: Node) -> CompanionHello | CompanionFinish:
    """Read either request of a companion.

    Raises:
        RemoteProtocolError: If it is malformed.
    """
    element = node.required(_ELEMENT)
    phone = element.required_jid("jid")
    if phone.server != PN_SERVER or not phone.user or phone.device:
        raise RemoteProtocolError("a pairing code for no phone number")
    match element.required_text("stage"):
        case "companion_hello":
            return CompanionHello(
                phone,
                element.data_of("link_code_pairing_wrapped_companion_ephemeral_pub", _WRAPPED_LEN),
                element.data_of("companion_server_auth_key_pub", KEY_LEN),
                text_content(element.required("companion_platform_display")),
            )
        case "companion_finish":
            return CompanionFinish(
                element.data_of("link_code_pairing_wrapped_key_bundle", _BUNDLE_LEN),
                parse_public_key(element, "companion_identity_public"),
                _ref(element),
            )
        case _:
            raise RemoteProtocolError("a pairing code has no such stage")


def ref_answer(node: Node, ref: bytes) -> Node:
    """Answer a companion's hello.

    Raises:
        RemoteProtocolError: If the request has no id.
    """
    return iq.result(node, Node(_ELEMENT, {}, (leaf("link_code_pairing_ref", ref),)))


def primary_hello(id: str, hello: PrimaryHello, *, t: int) -> Node:
    """Tell a companion that its code was typed.

    Args:
        t: server time, UTC seconds.
    """
    children = (
        leaf("link_code_pairing_ref", hello.ref),
        leaf("link_code_pairing_wrapped_primary_ephemeral_pub", hello.wrapped),
        leaf("primary_identity_pub", hello.identity),
    )
    return Node(
        "notification",
        attributes({"id": id, "from": SERVER_JID, "t": t, "type": NOTIFICATION_TYPE}),
        (Node(_ELEMENT, {"stage": "primary_hello"}, children),),
    )


def answer_hello(
    code: str,
    wrapped: bytes,
    ref: bytes,
    ephemeral: KeyPair,
    identity: bytes,
    draw: Draw = secrets.token_bytes,
) -> tuple[bytes, PrimaryHello]:
    """Take the code that was typed; for a thread.

    Args:
        wrapped: the companion's ephemeral key, 80 bytes.
        ephemeral: the phone's, made for this attempt alone.
        identity: the phone's identity key, 32 bytes.

    Returns:
        The companion's ephemeral key, if the code is right, and what the phone says to it.
    """
    hello = PrimaryHello(ref, _wrap(code, ephemeral.public_key, draw), identity)
    return _unwrap(code, wrapped), hello


def open_finish(
    finish: CompanionFinish, companion: bytes, ephemeral: KeyPair, identity: KeyPair
) -> bytes:
    """Open what the companion sent, as the phone does; returns the adv secret, 32 bytes.

    Args:
        companion: its ephemeral key, from `answer_hello`.
        ephemeral: the phone's.
        identity: the phone's identity key pair.

    Raises:
        RemoteProtocolError: If the code was another one, or the companion saw other identities.
    """
    ephemeral_secret = exchange(ephemeral.private_key, companion)
    salt, rest = finish.bundle[:_SALT_LEN], finish.bundle[_SALT_LEN:]
    opened = aes_gcm_decrypt(
        _bundle_key(ephemeral_secret, salt), rest[:_NONCE_LEN], rest[_NONCE_LEN:]
    )
    theirs, ours = opened[:KEY_LEN], opened[KEY_LEN : 2 * KEY_LEN]
    if not equal(theirs, finish.identity) or not equal(ours, identity.public_key):
        raise RemoteProtocolError("somebody sits between the phone and the companion")
    identity_secret = exchange(identity.private_key, theirs)
    return _adv_secret(ephemeral_secret, identity_secret, opened[2 * KEY_LEN :])


# --- what both do ---


def _ref(element: Node) -> bytes:
    ref = element.data_of("link_code_pairing_ref")
    if not ref:
        raise RemoteProtocolError("an empty ref of a pairing code")
    return ref


def _wrap(code: str, public_key: bytes, draw: Draw) -> bytes:
    salt, iv = draw(_SALT_LEN), draw(_IV_LEN)
    return salt + iv + aes_ctr(_code_key(code, salt), iv, public_key)


def _unwrap(code: str, wrapped: bytes) -> bytes:
    salt, rest = wrapped[:_SALT_LEN], wrapped[_SALT_LEN:]
    return aes_ctr(_code_key(code, salt), rest[:_IV_LEN], rest[_IV_LEN:])


def _code_key(code: str, salt: bytes) -> bytes:
    return pbkdf2(code.encode(), salt, _ITERATIONS)


def _bundle_key(ephemeral_secret: bytes, salt: bytes) -> bytes:
    return hkdf(ephemeral_secret, salt=salt, info=_BUNDLE_INFO, length=KEY_LEN)


def _adv_secret(ephemeral_secret: bytes, identity_secret: bytes, random: bytes) -> bytes:
    return hkdf(ephemeral_secret + identity_secret + random, info=_ADV_INFO, length=KEY_LEN)
