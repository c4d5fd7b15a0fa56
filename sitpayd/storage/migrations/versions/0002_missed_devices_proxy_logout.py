"""Remember sent messages that some devices missed, proxies, and logouts that are still to be told.

Revision: 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    no = sa.text("0")
    op.add_column(
        "outbox", sa.Column("missed_devices", sa.Boolean(), nullable=False, server_default=no)
    )
    op.create_index(
        "ix_outbox_missed", "outbox", ["device_id", "seq"], sqlite_where=sa.text("missed_devices")
    )
    op.add_column("device", sa.Column("proxy_sealed", sa.LargeBinary(), nullable=True))
    op.add_column(
        "device", sa.Column("logout_wanted", sa.Boolean(), nullable=False, server_default=no)
    )
