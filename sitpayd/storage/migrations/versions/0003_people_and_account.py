"""Remember people (names, tokens, how they are addressed), account facts, app state keys, notices
of the phone, number checks, requests for resends, and which messages were read.

Revision: 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    no = sa.text("0")
    op.create_table(
        "contact",
        _device(),
        sa.Column("user_digest", sa.LargeBinary(), nullable=False),
        sa.Column("name_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("by_number", sa.Boolean(), nullable=False, server_default=no),
        sa.Column("has_chat", sa.Boolean(), nullable=False, server_default=no),
        sa.Column("token_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("token_t", sa.Integer(), nullable=True),
        sa.Column("token_until", sa.Integer(), nullable=True),
        sa.Column("token_given_t", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("device_id", "user_digest", name="pk_contact"),
    )
    op.create_table(
        "account_fact",
        _device(),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value_sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "name", name="pk_account_fact"),
    )
    op.create_table(
        "app_state_key",
        _device(),
        sa.Column("key_id", sa.LargeBinary(), nullable=False),
        sa.Column("key_data_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("timestamp", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "key_id", name="pk_app_state_key"),
    )
    op.create_table(
        "phone_notice",
        sa.Column("id", sa.Integer(), nullable=False),
        _device(),
        sa.Column("wa_message_id", sa.String(), nullable=False),
        sa.Column("notice_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_phone_notice"),
        sa.UniqueConstraint(
            "device_id", "wa_message_id", name="uq_phone_notice_device_id_wa_message_id"
        ),
    )
    op.create_table(
        "number_check",
        _device(),
        sa.Column("number_digest", sa.LargeBinary(), nullable=False),
        sa.Column("registered", sa.Boolean(), nullable=False),
        sa.Column("checked_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "number_digest", name="pk_number_check"),
    )
    op.create_index("ix_number_check_checked_at", "number_check", ["device_id", "checked_at"])
    op.create_table(
        "retry_request",
        _device(),
        sa.Column("message_digest", sa.LargeBinary(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("asked_at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "message_digest", name="pk_retry_request"),
    )
    op.create_index("ix_retry_request_asked_at", "retry_request", ["asked_at"])
    op.add_column(
        "signal_session", sa.Column("used_at", sa.Integer(), nullable=False, server_default=no)
    )
    op.add_column("inbox", sa.Column("read_at", sa.Integer(), nullable=True))
    op.add_column("inbox", sa.Column("read_told", sa.Boolean(), nullable=False, server_default=no))
    op.create_index(
        "ix_inbox_read",
        "inbox",
        ["device_id", "seq"],
        sqlite_where=sa.text("read_at IS NOT NULL AND NOT read_told"),
    )


def _device() -> sa.Column[int]:
    return sa.Column("device_id", sa.Integer(), sa.ForeignKey("device.id"), nullable=False)
