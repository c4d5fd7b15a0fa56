"""Tables, as SQLModel sees them: the one description that migrations are compared with.

Nothing that names a recipient or tells a text stands in clear. `*_sealed` columns are opened by the
vault, `*_digest` columns are its keyed digests. Times are microseconds since 1970, UTC.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

# Batch migrations on SQLite can only drop a constraint that has a name.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

METADATA: Final = SQLModel.metadata


def _row_id() -> Column[int]:
    return Column("id", Integer, primary_key=True)


class SettingTable(SQLModel, table=True):
    """Facts about the database itself, such as the sealed check value of its secret."""

    __tablename__ = "setting"

    name: str = Field(primary_key=True)
    value: bytes


class PartnerTable(SQLModel, table=True):
    """Resellers."""

    __tablename__ = "partner"

    id: int = Field(sa_column=_row_id())
    name: str
    email: str
    domain: str
    key_digest: bytes = Field(unique=True)
    key_last4: str
    created_at: int


class EndUserTable(SQLModel, table=True):
    """End users of partners."""

    __tablename__ = "end_user"
    # The second one is the target of a device's double reference: its user is its partner's.
    __table_args__ = (UniqueConstraint("token_digest"), UniqueConstraint("partner_id", "id"))

    id: int = Field(sa_column=_row_id())
    partner_id: int = Field(foreign_key="partner.id")
    label: str
    email: str
    token_digest: bytes
    token_sealed: bytes
    created_at: int


class DeviceTable(SQLModel, table=True):
    """Devices. Rows stay for ever; `removed_at` and `forgotten_at` empty them."""

    __tablename__ = "device"
    __table_args__ = (
        UniqueConstraint("session_id"),
        UniqueConstraint("token_digest"),
        ForeignKeyConstraint(["partner_id", "user_id"], ["end_user.partner_id", "end_user.id"]),
        CheckConstraint("desired IN ('running', 'paused', 'removed')", name="desired"),
        Index(None, "partner_id", "user_id", "id"),
    )

    id: int = Field(sa_column=_row_id())
    session_id: str
    partner_id: int
    user_id: int
    name: str
    token_digest: bytes | None
    token_sealed: bytes | None
    desired: str
    rest_phase: str | None
    rest_reason: str | None
    rest_since: int | None
    rest_until: int | None
    phone_sealed: bytes | None
    last_seq: int
    last_prekey_id: int
    sent_count: int
    created_at: int
    removed_at: int | None
    forgotten_at: int | None
    queue_when_offline: bool
    new_chats_until: int | None
    new_chats_reason: str | None
    proxy_sealed: bytes | None
    # The owner wants it logged out, and WhatsApp does not know yet.
    logout_wanted: bool = Field(sa_column_kwargs={"server_default": text("0")})


class CredentialsTable(SQLModel, table=True):
    """What a device logs in with: one sealed blob."""

    __tablename__ = "credentials"

    device_id: int = Field(primary_key=True, foreign_key="device.id")
    blob_sealed: bytes
    saved_at: int


class PreKeyTable(SQLModel, table=True):
    """Private halves of one-time prekeys that nobody has used yet."""

    __tablename__ = "prekey"

    device_id: int = Field(primary_key=True, foreign_key="device.id")
    key_id: int = Field(primary_key=True)
    private_key_sealed: bytes
    uploaded: bool


class SignalSessionTable(SQLModel, table=True):
    """Signal sessions by address."""

    __tablename__ = "signal_session"

    device_id: int = Field(primary_key=True, foreign_key="device.id")
    user_digest: bytes = Field(primary_key=True)
    device_number: int = Field(primary_key=True)
    record_sealed: bytes
    used_at: int = Field(sa_column_kwargs={"server_default": text("0")})


class IdentityTable(SQLModel, table=True):
    """Identity keys of others by address."""

    __tablename__ = "identity"

    device_id: int = Field(primary_key=True, foreign_key="device.id")
    user_digest: bytes = Field(primary_key=True)
    device_number: int = Field(primary_key=True)
    public_key_sealed: bytes
    changed_at: int


class LidMappingTable(SQLModel, table=True):
    """Which phone number is which LID; each has at most one of the other."""

    __tablename__ = "lid_mapping"
    __table_args__ = (UniqueConstraint("device_id", "lid_digest"),)

    device_id: int = Field(primary_key=True, foreign_key="device.id")
    pn_digest: bytes = Field(primary_key=True)
    lid_digest: bytes
    pn_sealed: bytes
    lid_sealed: bytes


class ContactTable(SQLModel, table=True):
    """What is known of people: by LID, or by number as long as no LID is known."""

    __tablename__ = "contact"

    device_id: int = Field(primary_key=True, foreign_key="device.id")
    user_digest: bytes = Field(primary_key=True)
    # As the person calls itself.
    name_sealed: bytes | None
    # It understands only what is addressed by number, although its LID is known.
    by_number: bool = Field(sa_column_kwargs={"server_default": text("0")})
    # There was a chat before the device was linked, as the phone's history tells.
    has_chat: bool = Field(sa_column_kwargs={"server_default": text("0")})
    # Its privacy token, the server's time of that, its end, and when it was given ours: UTC, s.
    token_sealed: bytes | None
    token_t: int | None
    token_until: int | None
    token_given_t: int | None


class AccountFactTable(SQLModel, table=True):
    """What servers and phone tell about a linked account, by name."""

    __tablename__ = "account_fact"

    device_id: int = Field(primary_key=True, foreign_key="device.id")
    name: str = Field(primary_key=True)
    value_sealed: bytes


class AppStateKeyTable(SQLModel, table=True):
    """Keys of the account's app state, as the phone shares them."""

    __tablename__ = "app_state_key"

    device_id: int = Field(primary_key=True, foreign_key="device.id")
    key_id: bytes = Field(primary_key=True)
    key_data_sealed: bytes
    timestamp: int


class PhoneNoticeTable(SQLModel, table=True):
    """What the phone has told and nobody has read yet: histories, mostly to be downloaded."""

    __tablename__ = "phone_notice"
    __table_args__ = (UniqueConstraint("device_id", "wa_message_id"),)

    id: int = Field(sa_column=_row_id())
    device_id: int = Field(foreign_key="device.id")
    wa_message_id: str
    notice_sealed: bytes
    attempts: int
    due_at: int


class NumberCheckTable(SQLModel, table=True):
    """Which numbers were looked up, and whether they have an account."""

    __tablename__ = "number_check"
    __table_args__ = (Index("ix_number_check_checked_at", "device_id", "checked_at"),)

    device_id: int = Field(primary_key=True, foreign_key="device.id")
    number_digest: bytes = Field(primary_key=True)
    registered: bool
    checked_at: int


class RetryRequestTable(SQLModel, table=True):
    """How often a message that could not be read was asked for again."""

    __tablename__ = "retry_request"
    __table_args__ = (Index("ix_retry_request_asked_at", "asked_at"),)

    device_id: int = Field(primary_key=True, foreign_key="device.id")
    message_digest: bytes = Field(primary_key=True)
    count: int
    asked_at: int


class OutboxTable(SQLModel, table=True):
    """Outgoing messages. The partial indexes hold only rows that something waits for."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("message_id"),
        UniqueConstraint("device_id", "wa_message_id"),
        UniqueConstraint("device_id", "idempotency_digest"),
        UniqueConstraint("device_id", "seq"),
        CheckConstraint(
            "state IN ('accepted', 'armed', 'unknown', 'sent', 'delivered', 'read',"
            " 'canceled', 'expired', 'failed')",
            name="state",
        ),
        Index(
            "ix_outbox_waiting",
            "device_id",
            "state",
            "seq",
            sqlite_where=text("state IN ('accepted', 'armed')"),
        ),
        Index(
            "ix_outbox_expiring",
            "expires_at",
            sqlite_where=text("state IN ('accepted', 'armed')"),
        ),
        Index(
            "ix_outbox_text",
            "settled_at",
            sqlite_where=text("text_sealed IS NOT NULL AND settled_at IS NOT NULL"),
        ),
        Index("ix_outbox_recipient", "device_id", "recipient_digest"),
        Index(
            "ix_outbox_first_contact",
            "device_id",
            "armed_at",
            sqlite_where=text("first_contact = 2"),
        ),
        Index("ix_outbox_missed", "device_id", "seq", sqlite_where=text("missed_devices")),
    )

    id: int = Field(sa_column=_row_id())
    device_id: int = Field(foreign_key="device.id")
    seq: int
    message_id: str
    wa_message_id: str
    recipient_digest: bytes
    recipient_sealed: bytes
    text_sealed: bytes | None
    idempotency_digest: bytes | None
    body_digest: bytes
    state: str
    reason: str | None
    stanza_sealed: bytes | None
    participants_sealed: bytes | None
    phash: str | None
    attempts: int
    server_time: int | None
    created_at: int
    expires_at: int
    settled_at: int | None
    history: str
    held_until: int | None
    held_reason: str | None
    # 0: to somebody close; 1: waits to be the first message of a chat; 2: left as one; 3: we wrote
    # before, and nothing came back.
    first_contact: int
    armed_at: int | None
    # JSON: digest of a device -> how often it was sent the message anew.
    resends: str
    # Sent, but the server knows of devices that it was not encrypted for.
    missed_devices: bool = Field(sa_column_kwargs={"server_default": text("0")})


class InboxTable(SQLModel, table=True):
    """Decrypted messages, also those the account wrote on its other devices."""

    __tablename__ = "inbox"
    __table_args__ = (
        UniqueConstraint("message_id"),
        UniqueConstraint("device_id", "dedupe_digest"),
        UniqueConstraint("device_id", "seq"),
        Index("ix_inbox_text", "received_at", sqlite_where=text("text_sealed IS NOT NULL")),
        Index("ix_inbox_chat", "device_id", "chat_digest"),
        Index(
            "ix_inbox_read",
            "device_id",
            "seq",
            sqlite_where=text("read_at IS NOT NULL AND NOT read_told"),
        ),
    )

    id: int = Field(sa_column=_row_id())
    device_id: int = Field(foreign_key="device.id")
    seq: int
    message_id: str
    wa_message_id: str
    dedupe_digest: bytes
    chat_sealed: bytes
    sender_sealed: bytes
    push_name_sealed: bytes | None
    text_sealed: bytes | None
    from_me: bool
    timestamp: int
    received_at: int
    chat_digest: bytes
    # When it was marked as read here, and whether WhatsApp knows.
    read_at: int | None
    read_told: bool = Field(sa_column_kwargs={"server_default": text("0")})


class SeenCiphertextTable(SQLModel, table=True):
    """Hashes of ciphertexts already decrypted: the ratchet cannot do it twice."""

    __tablename__ = "seen_ciphertext"
    __table_args__ = (Index(None, "seen_at"),)

    device_id: int = Field(primary_key=True, foreign_key="device.id")
    digest: bytes = Field(primary_key=True)
    seen_at: int
