"""Make the tables.

Revision: 0001, the first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "partner",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("domain", sa.String(), nullable=False),
        sa.Column("key_digest", sa.LargeBinary(), nullable=False),
        sa.Column("key_last4", sa.String(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partner")),
        sa.UniqueConstraint("key_digest", name=op.f("uq_partner_key_digest")),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_setting")),
    )
    op.create_table(
        "end_user",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("partner_id", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(), nullable=False),
        sa.Column("token_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["partner.id"], name=op.f("fk_end_user_partner_id_partner")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_end_user")),
        sa.UniqueConstraint("partner_id", "id", name=op.f("uq_end_user_partner_id_id")),
        sa.UniqueConstraint("token_digest", name=op.f("uq_end_user_token_digest")),
    )
    op.create_table(
        "device",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("session_id", sa.String(), nullable=False),
        sa.Column("partner_id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(), nullable=True),
        sa.Column("token_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("desired", sa.String(), nullable=False),
        sa.Column("rest_phase", sa.String(), nullable=True),
        sa.Column("rest_reason", sa.String(), nullable=True),
        sa.Column("rest_since", sa.Integer(), nullable=True),
        sa.Column("rest_until", sa.Integer(), nullable=True),
        sa.Column("phone_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("last_prekey_id", sa.Integer(), nullable=False),
        sa.Column("sent_count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("removed_at", sa.Integer(), nullable=True),
        sa.Column("forgotten_at", sa.Integer(), nullable=True),
        sa.Column("queue_when_offline", sa.Boolean(), nullable=False),
        sa.Column("new_chats_until", sa.Integer(), nullable=True),
        sa.Column("new_chats_reason", sa.String(), nullable=True),
        sa.CheckConstraint(
            "desired IN ('running', 'paused', 'removed')", name=op.f("ck_device_desired")
        ),
        sa.ForeignKeyConstraint(
            ["partner_id", "user_id"],
            ["end_user.partner_id", "end_user.id"],
            name=op.f("fk_device_partner_id_user_id_end_user"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device")),
        sa.UniqueConstraint("session_id", name=op.f("uq_device_session_id")),
        sa.UniqueConstraint("token_digest", name=op.f("uq_device_token_digest")),
    )
    op.create_index(
        op.f("ix_device_partner_id_user_id_id"), "device", ["partner_id", "user_id", "id"]
    )
    op.create_table(
        "credentials",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("blob_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("saved_at", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_credentials_device_id_device")
        ),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_credentials")),
    )
    op.create_table(
        "identity",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("user_digest", sa.LargeBinary(), nullable=False),
        sa.Column("device_number", sa.Integer(), nullable=False),
        sa.Column("public_key_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("changed_at", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_identity_device_id_device")
        ),
        sa.PrimaryKeyConstraint(
            "device_id", "user_digest", "device_number", name=op.f("pk_identity")
        ),
    )
    op.create_table(
        "inbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("wa_message_id", sa.String(), nullable=False),
        sa.Column("dedupe_digest", sa.LargeBinary(), nullable=False),
        sa.Column("chat_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("sender_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("push_name_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("text_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("from_me", sa.Boolean(), nullable=False),
        sa.Column("timestamp", sa.Integer(), nullable=False),
        sa.Column("received_at", sa.Integer(), nullable=False),
        sa.Column("chat_digest", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_inbox_device_id_device")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        sa.UniqueConstraint(
            "device_id", "dedupe_digest", name=op.f("uq_inbox_device_id_dedupe_digest")
        ),
        sa.UniqueConstraint("device_id", "seq", name=op.f("uq_inbox_device_id_seq")),
        sa.UniqueConstraint("message_id", name=op.f("uq_inbox_message_id")),
    )
    op.create_index(
        op.f("ix_inbox_text"),
        "inbox",
        ["received_at"],
        sqlite_where=sa.text("text_sealed IS NOT NULL"),
    )
    op.create_index(op.f("ix_inbox_chat"), "inbox", ["device_id", "chat_digest"])
    op.create_table(
        "lid_mapping",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("pn_digest", sa.LargeBinary(), nullable=False),
        sa.Column("lid_digest", sa.LargeBinary(), nullable=False),
        sa.Column("pn_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("lid_sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_lid_mapping_device_id_device")
        ),
        sa.PrimaryKeyConstraint("device_id", "pn_digest", name=op.f("pk_lid_mapping")),
        sa.UniqueConstraint(
            "device_id", "lid_digest", name=op.f("uq_lid_mapping_device_id_lid_digest")
        ),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.String(), nullable=False),
        sa.Column("wa_message_id", sa.String(), nullable=False),
        sa.Column("recipient_digest", sa.LargeBinary(), nullable=False),
        sa.Column("recipient_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("text_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("idempotency_digest", sa.LargeBinary(), nullable=True),
        sa.Column("body_digest", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("stanza_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("participants_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("phash", sa.String(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("server_time", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.Integer(), nullable=False),
        sa.Column("settled_at", sa.Integer(), nullable=True),
        sa.Column("history", sa.String(), nullable=False),
        sa.Column("held_until", sa.Integer(), nullable=True),
        sa.Column("held_reason", sa.String(), nullable=True),
        sa.Column("first_contact", sa.Integer(), nullable=False),
        sa.Column("armed_at", sa.Integer(), nullable=True),
        sa.Column("resends", sa.String(), nullable=False),
        sa.CheckConstraint(
            "state IN ('accepted', 'armed', 'unknown', 'sent', 'delivered', 'read',"
            " 'canceled', 'expired', 'failed')",
            name=op.f("ck_outbox_state"),
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_outbox_device_id_device")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint(
            "device_id", "idempotency_digest", name=op.f("uq_outbox_device_id_idempotency_digest")
        ),
        sa.UniqueConstraint("device_id", "seq", name=op.f("uq_outbox_device_id_seq")),
        sa.UniqueConstraint(
            "device_id", "wa_message_id", name=op.f("uq_outbox_device_id_wa_message_id")
        ),
        sa.UniqueConstraint("message_id", name=op.f("uq_outbox_message_id")),
    )
    op.create_index(
        op.f("ix_outbox_expiring"),
        "outbox",
        ["expires_at"],
        sqlite_where=sa.text("state IN ('accepted', 'armed')"),
    )
    op.create_index(
        op.f("ix_outbox_first_contact"),
        "outbox",
        ["device_id", "armed_at"],
        sqlite_where=sa.text("first_contact = 2"),
    )
    op.create_index(op.f("ix_outbox_recipient"), "outbox", ["device_id", "recipient_digest"])
    op.create_index(
        op.f("ix_outbox_text"),
        "outbox",
        ["settled_at"],
        sqlite_where=sa.text("text_sealed IS NOT NULL AND settled_at IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_outbox_waiting"),
        "outbox",
        ["device_id", "state", "seq"],
        sqlite_where=sa.text("state IN ('accepted', 'armed')"),
    )
    op.create_table(
        "prekey",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("key_id", sa.Integer(), nullable=False),
        sa.Column("private_key_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("uploaded", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_prekey_device_id_device")
        ),
        sa.PrimaryKeyConstraint("device_id", "key_id", name=op.f("pk_prekey")),
    )
    op.create_table(
        "seen_ciphertext",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_seen_ciphertext_device_id_device")
        ),
        sa.PrimaryKeyConstraint("device_id", "digest", name=op.f("pk_seen_ciphertext")),
    )
    op.create_index(op.f("ix_seen_ciphertext_seen_at"), "seen_ciphertext", ["seen_at"])
    op.create_table(
        "signal_session",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("user_digest", sa.LargeBinary(), nullable=False),
        sa.Column("device_number", sa.Integer(), nullable=False),
        sa.Column("record_sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id"], ["device.id"], name=op.f("fk_signal_session_device_id_device")
        ),
        sa.PrimaryKeyConstraint(
            "device_id", "user_digest", "device_number", name=op.f("pk_signal_session")
        ),
    )
