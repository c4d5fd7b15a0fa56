"""iqs: the requests of a logged-in client and their answers.

Every request gets an answer: what is not simulated gets error 501 and stands in the list of
unsupported requests. Unlinking changes more than one device and is done by server.py.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from typing import Final

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid, pn
from sitpayd.whatsapp.keys import MAX_PREKEY_ID
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas import iq, mex, prekeys, privacy, props, usync
from sitpayd.whatsapp.stanzas.wire import parse_signed_key

from .accounts import Account, Device
from .faults import FaultKind
from .greeting import MediaStore
from .routing import Router
from .trust import cap_of, lock_of
from .violations import Kind

# The names whose defaults an account has. Source: Baileys lib/Types/Chat (privacy values).
_PRIVACY: Final = {
    "readreceipts": "all",
    "profile": "all",
    "status": "contacts",
    "online": "all",
    "last": "contacts",
    "groupadd": "all",
    "calladd": "all",
    "messages": "all",
    "defense": "off",
}
_PROPS_HASH_LEN: Final = 12
_MEDIA_TTL_S: Final = "300"
_MEDIA_AUTH_TTL_S: Final = "21600"

Handler = Callable[[Device, Node], Node]


class IqDesk:
    """Answers the requests of all clients.

    Attributes:
        props: what is switched on, by code.
    """

    def __init__(self, router: Router, media: MediaStore) -> None:
        # whatsapp-rust puts no token into a message unless this is switched on.
        self.props: dict[str, str] = {props.TOKENS_WITH_MESSAGES: "1"}
        self._router = router
        self._media = media
        self._accounts = router.accounts
        self._violations = router.violations
        # By namespace and type; the child decides within a namespace.
        self._handlers: dict[tuple[str, str], Handler] = {
            ("w:p", "get"): _done,
            ("urn:xmpp:ping", "get"): _done,
            ("passive", "set"): _done,
            ("urn:xmpp:whatsapp:dirty", "set"): _clean,
            ("urn:xmpp:whatsapp:push", "set"): _done,
            ("encrypt", "get"): self._encrypt_get,
            ("encrypt", "set"): self._encrypt_set,
            ("usync", "get"): self._usync,
            ("abt", "get"): self._props,
            ("privacy", "get"): _privacy,
            ("privacy", "set"): self._privacy_set,
            ("blocklist", "get"): _blocklist,
            ("disappearing_mode", "get"): _done,
            ("w:m", "set"): self._media_conn,
            ("w:sync:app:state", "set"): _app_state,
            ("w:g2", "get"): self._groups,
            ("w:mex", "get"): self._mex,
            ("w:profile:picture", "get"): _no_picture,
        }

    def answer(self, device: Device, node: Node) -> Node | None:
        """Answer a request; None if a fault swallows it.

        Raises:
            RemoteProtocolError: If the request has no id.
        """
        node.required_text("id")
        if self._router.faults.take(device, FaultKind.LOSE_IQ):
            return None
        fault = self._router.faults.take(device, FaultKind.REFUSE_IQ)
        if fault is not None:
            return iq.error(node, fault.code, "refused")
        handler = self._handlers.get((node.text("xmlns") or "", node.text("type") or ""))
        if handler is None:
            return self._unsupported(device, node)
        try:
            return handler(device, node)
        except RemoteProtocolError as error:
            kind = Kind.PREKEYS if node.text("xmlns") == "encrypt" else Kind.STANZA
            self._violations.record(device, kind, f"iq {node.text('xmlns')}: {error}")
            return iq.error(node, 400, "bad-request")

    def _unsupported(self, device: Device, node: Node) -> Node:
        tags = " ".join(child.tag for child in node.children)
        what = f"iq {node.text('type')} {node.text('xmlns')} {tags}"
        self._violations.unsupported(device, what.rstrip())
        return iq.error(node, 501, "feature-not-implemented")

    # --- prekeys ---

    def _encrypt_get(self, device: Device, node: Node) -> Node:
        if node.child("count") is not None:
            return prekeys.count_answer(node, len(device.prekeys))
        if node.child("digest") is not None:
            if self._router.faults.take(device, FaultKind.NO_DIGEST):
                return iq.result(node)
            return prekeys.digest_answer(node, _stored(device))
        if node.child("key") is not None:
            return self._bundles(device, node)
        return self._unsupported(device, node)

    def _bundles(self, device: Device, node: Node) -> Node:
        bundles: dict[Jid, PreKeyBundle | prekeys.BundleRefused] = {}
        identities: dict[Jid, bytes] = {}
        for jid in prekeys.parse_bundles_query(node):
            target = self._accounts.device(jid)
            if jid in bundles:
                self._violations.record(device, Kind.PREKEYS, f"asks twice for a bundle of {jid}")
            elif target is None:
                bundles[jid] = prekeys.BundleRefused(404, "item-not-found")
            elif (fault := self._router.faults.take(target, FaultKind.REFUSE_BUNDLE)) is not None:
                device.refused.add(target)
                bundles[jid] = prekeys.BundleRefused(fault.code, "not-acceptable")
            else:
                device.refused.discard(target)
                bundles[jid] = target.take_bundle()
                self._router.prekeys_taken(target)
                if target.signed_identity is not None:
                    identities[jid] = target.signed_identity
        return prekeys.bundles_answer(node, bundles, identities)

    def _encrypt_set(self, device: Device, node: Node) -> Node:
        rotate = node.child("rotate")
        if rotate is not None:
            # Only the signed prekey is exchanged; the rest is as stored.
            key_id, public_key, signature = parse_signed_key(rotate.required("skey"))
            stored = _stored(device)
            upload = prekeys.Upload(
                stored.registration_id, stored.identity, key_id, public_key, signature, ()
            )
        else:
            upload = prekeys.parse_upload(node)
        faults = self._upload_faults(device, upload)
        for fault in faults:
            self._violations.record(device, Kind.PREKEYS, fault)
        if faults:
            return iq.error(node, 406, "not-acceptable")
        device.signed_prekey_id = upload.signed_prekey_id
        device.signed_prekey = upload.signed_prekey
        device.signature = upload.signature
        device.signed_prekey_ids.add(upload.signed_prekey_id)
        for key_id, public_key in upload.prekeys:
            if key_id not in device.known_prekeys:
                device.prekeys[key_id] = device.known_prekeys[key_id] = public_key
        return iq.result(node)

    def _upload_faults(self, device: Device, upload: prekeys.Upload) -> list[str]:
        found = []
        if not upload.signature_is_valid():
            found.append("upload with a bad signature of the signed prekey")
        if upload.identity != device.identity:
            found.append("upload under another identity")
        if upload.registration_id != device.registration_id:
            found.append("upload with another registration id")
        ids = [key_id for key_id, _ in upload.prekeys]
        if len(set(ids)) != len(ids):
            found.append("upload with the same prekey id twice")
        if not all(1 <= key_id <= MAX_PREKEY_ID for key_id in (*ids, upload.signed_prekey_id)):
            found.append("upload with a prekey id that is not 1 to 2^24-1")
        # A repeated id is taken as long as its key is the same: an answer may have been lost.
        if any(device.known_prekeys.get(key_id, key) != key for key_id, key in upload.prekeys):
            found.append("upload of another key under a prekey id that is used")
        return found

    # --- people ---

    def _usync(self, device: Device, node: Node) -> Node:
        query = usync.parse_query(node)
        numbers = [user.number for user in query.users if user.number is not None]
        device.checked += len(numbers)
        if numbers and self._router.faults.take(device, FaultKind.REFUSE_CHECK):
            refused = [usync.UserAnswer(pn(number), contact=(number, None)) for number in numbers]
            return usync.answer(node, refused)
        return usync.answer(node, [self._user(device, query, user) for user in query.users])

    def _user(
        self, device: Device, query: usync.UsyncQuery, user: usync.QueriedUser
    ) -> usync.UserAnswer:
        if user.number is not None:
            account = self._accounts.by_number(user.number)
            jid = _answered_as(account, device.account) if account else None
            contact = (user.number, account is not None)
            number_jid = pn(user.number)
        else:
            account = None if user.jid is None else self._accounts.of(user.jid)
            jid, contact, number_jid = user.jid, None, None
        if account is None:
            return usync.UserAnswer(jid or number_jid, contact=contact)
        refused = self._router.faults.take(account.phone, FaultKind.REFUSE_DEVICES)
        if "devices" in query.protocols and refused:
            # Who asks does not know, whatever it was told once.
            device.told.pop(account.lid_user, None)
        elif "devices" in query.protocols:
            device.told[account.lid_user] = account.numbers
            account.watchers.add(device.account)
        return usync.UserAnswer(
            jid,
            pn=number_jid,
            lid=None if account.hides_lid_from(device.account) else account.lid,
            devices=None if refused else _listed(account),
            key_index_list=account.key_index_list,
            contact=contact,
        )

    # --- the rest ---

    def _props(self, _: Device, node: Node) -> Node:
        listed = json.dumps(sorted(self.props.items())).encode()
        name = hashlib.sha256(listed).hexdigest()[:_PROPS_HASH_LEN]
        known = props.parse_query(node) == name
        return props.answer(node, name, {} if known else self.props)

    def _groups(self, device: Device, node: Node) -> Node:
        if node.child("participating") is not None:
            return iq.result(node, Node("groups"))
        return self._unsupported(device, node)

    def _mex(self, device: Device, node: Node) -> Node:
        account = device.account
        answer = mex.answer(node, lock_of(account), cap_of(account))
        return self._unsupported(device, node) if answer is None else answer

    def _privacy_set(self, device: Device, node: Node) -> Node:
        if node.child("tokens") is None:
            return iq.result(node)
        theirs: dict[Jid, privacy.GivenToken] = {}
        for to, t in privacy.parse_give(node):
            account = self._accounts.of(to)
            if account is None:
                return iq.error(node, 404, "item-not-found")
            if account is device.account:
                continue  # unmodified clients do that behind a note to oneself
            if not self._router.trust.is_giveable(t):
                self._violations.record(device, Kind.TOKEN, "gives a token that cannot be given")
                return iq.error(node, 400, "bad-request")
            self._router.give_token(device.account, account, t)
            token = self._router.trust.given(account, device.account)
            if token is not None:
                theirs[to] = token
        return privacy.give_answer(node, theirs)

    def _media_conn(self, _: Device, node: Node) -> Node:
        attrs = {
            "auth": secrets.token_urlsafe(24),
            "ttl": _MEDIA_TTL_S,
            "auth_ttl": _MEDIA_AUTH_TTL_S,
            "max_buckets": "12",
            "id": "1",
        }
        hosts = (Node("host", {"hostname": self._media.host, "type": "primary"}),)
        return iq.result(node, Node("media_conn", attrs, hosts))


def _done(_: Device, node: Node) -> Node:
    return iq.result(node)


def _clean(device: Device, node: Node) -> Node:
    cleaned = iq.parse_clean(node)
    if cleaned is None:
        raise RemoteProtocolError("cleans nothing")
    kind, timestamp = cleaned
    since = device.dirty.get(kind)
    # Baileys cleans at each login what it was told before; and some things without a time.
    if since is not None and (timestamp is None or timestamp >= since):
        del device.dirty[kind]
    return iq.result(node)


def _privacy(_: Device, node: Node) -> Node:
    categories = tuple(
        Node("category", {"name": name, "value": value}) for name, value in _PRIVACY.items()
    )
    return iq.result(node, Node("privacy", {}, categories))


def _blocklist(_: Device, node: Node) -> Node:
    return iq.result(node, Node("list", {"dhash": "none"}))


def _app_state(_: Device, node: Node) -> Node:
    collections = tuple(
        Node(
            "collection",
            {
                "name": collection.required_text("name"),
                "version": collection.text("version") or "0",
                "has_more_patches": "false",
            },
        )
        for collection in node.required("sync").named("collection")
    )
    return iq.result(node, Node("sync", {}, collections))


def _no_picture(_: Device, node: Node) -> Node:
    return iq.error(node, 404, "item-not-found")


def _stored(device: Device) -> prekeys.Upload:
    return prekeys.Upload(
        registration_id=device.registration_id,
        identity=device.identity,
        signed_prekey_id=device.signed_prekey_id,
        signed_prekey=device.signed_prekey,
        signature=device.signature,
        prekeys=tuple(device.prekeys.items()),
    )


def _listed(account: Account) -> tuple[usync.Device, ...]:
    devices = account.devices.values()
    return tuple(
        usync.Device(device.number, device.key_index, device.is_hosted) for device in devices
    )


def _answered_as(account: Account, told: Account) -> Jid:
    """By which address a checked number is answered."""
    return account.pn if account.hides_lid_from(told) else account.lid
