"""Companions: linked devices of an account that live in this process.

They have what every endpoint has. Nobody logs in as one: a client's companion is client.py.
"""

from __future__ import annotations

import secrets
import time

from sitpayd.whatsapp.keys import DeviceKeys
from sitpayd.whatsapp.stanzas.pairing import (
    accept_pair_success,
    make_signed_identity,
    pair_success,
)
from sitpayd.whatsapp.stanzas.usync import HOSTED_DEVICE

from .endpoint import Endpoint
from .phone import Phone
from .routing import Router
from .waker import Waker


class Companion(Endpoint):
    """A linked device, or the one of a business in the cloud."""

    def __init__(self, phone: Phone, router: Router, waker: Waker, *, is_hosted: bool) -> None:
        account, keys = phone.account, DeviceKeys.generate()
        number, key_index = account.next_number()
        if is_hosted:
            number = HOSTED_DEVICE
        signed = make_signed_identity(
            phone.keys.identity,
            keys.identity.public_key,
            keys.adv_secret,
            key_index=key_index,
            timestamp=int(time.time()),
            raw_id=account.raw_id,
        )
        stanza = pair_success(
            secrets.token_hex(8),
            signed,
            jid=account.pn.with_device(number),
            lid=account.lid.with_device(number),
            platform=account.platform,
            business_name=account.business_name,
            t=int(time.time()),
        )
        paired, _ = accept_pair_success(stanza, keys)
        super().__init__(
            account,
            number,
            router,
            waker,
            keys,
            name="cloud" if is_hosted else "companion",
            key_index=key_index,
            signed_identity=paired.signed_identity,
        )
