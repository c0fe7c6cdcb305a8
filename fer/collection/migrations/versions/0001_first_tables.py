"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "facts",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("value", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_facts"),
    )
    # The sum of all pictures' sizes, which keeping and deleting carry on.
    op.execute(
        sa.text("INSERT INTO facts (name, number, at) VALUES ('bytes', 0, CURRENT_TIMESTAMP)")
    )
    op.create_table(
        "operators",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("role", sa.String(length=12), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("session_epoch", sa.Integer(), nullable=False),
        sa.Column("handed_out", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_operators"),
    )
    op.create_table(
        "pending_deletions",
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("sample_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_pending_deletions"),
    )
    op.create_table(
        "samples",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("group_id", sa.String(length=64), nullable=True),
        sa.Column("receipt_hash", sa.String(length=64), nullable=True),
        sa.Column("source", sa.String(length=12), nullable=False),
        sa.Column("notice_version", sa.String(length=40), nullable=True),
        sa.Column("audit", sa.Boolean(), nullable=False),
        sa.Column("random_key", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=True),
        sa.Column("bytes", sa.Integer(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("phash", sa.String(length=64), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("face_box", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("roll", sa.Double(), nullable=True),
        sa.Column("detector_score", sa.Double(), nullable=True),
        sa.Column("face_px", sa.Integer(), nullable=True),
        sa.Column("sharpness", sa.Double(), nullable=True),
        sa.Column("model_version", sa.String(length=80), nullable=False),
        sa.Column("predicted_label", sa.String(length=40), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.Column("margin", sa.Double(), nullable=True),
        sa.Column("probabilities", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("visitor_label", sa.String(length=40), nullable=True),
        sa.Column("visitor_disagreed", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("final_label", sa.String(length=40), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.String(length=64), nullable=True),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_by", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("queue", sa.String(length=12), nullable=True),
        sa.Column("uncertainty", sa.Double(), nullable=True),
        sa.Column("rarity", sa.Double(), nullable=True),
        sa.Column("label_error", sa.Double(), nullable=True),
        sa.Column("label_error_checked", sa.Boolean(), nullable=False),
        sa.Column("opinion", sa.String(length=12), nullable=False),
        sa.Column("second_by", sa.String(length=64), nullable=True),
        sa.Column("second_kind", sa.String(length=12), nullable=True),
        sa.Column("second_label", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_samples"),
    )
    op.create_index("ix_samples_expires_at", "samples", ["expires_at"])
    op.create_index("ix_samples_final_label_id", "samples", ["final_label", "id"])
    op.create_index("ix_samples_group_id", "samples", ["group_id"])
    op.create_index(
        "ix_samples_label_error",
        "samples",
        ["label_error", "id"],
        sqlite_where=sa.text("label_error IS NOT NULL"),
        postgresql_where=sa.text("label_error IS NOT NULL"),
    )
    op.create_index("ix_samples_queue_decided_by", "samples", ["queue", "decided_by", "id"])
    op.create_index("ix_samples_model_version_id", "samples", ["model_version", "id"])
    op.create_index("ix_samples_predicted_label_id", "samples", ["predicted_label", "id"])
    op.create_index(
        "ix_samples_queue_disagreed", "samples", ["queue", "visitor_disagreed", "uncertainty", "id"]
    )
    op.create_index("ix_samples_queue_id", "samples", ["queue", "id"])
    op.create_index("ix_samples_queue_random", "samples", ["queue", "random_key", "id"])
    op.create_index("ix_samples_queue_rarity", "samples", ["queue", "rarity", "uncertainty", "id"])
    op.create_index("ix_samples_queue_uncertainty", "samples", ["queue", "uncertainty", "id"])
    op.create_index("ix_samples_receipt_hash", "samples", ["receipt_hash"])
    op.create_index("ix_samples_sha256", "samples", ["sha256"])
    op.create_index("ix_samples_status_id", "samples", ["status", "id"])

    op.create_table(
        "training_runs",
        sa.Column("id", _ROW_NUMBER, autoincrement=True, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.String(length=12), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("champion", sa.String(length=80), nullable=True),
        sa.Column("challenger", sa.String(length=80), nullable=True),
        sa.Column("metrics", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("sample_ids", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("last_event_id", _ROW_NUMBER, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_training_runs"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "label_events",
        sa.Column("id", _ROW_NUMBER, autoincrement=True, nullable=False),
        sa.Column("sample_id", sa.String(length=32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("actor_kind", sa.String(length=12), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("from_label", sa.String(length=40), nullable=True),
        sa.Column("to_label", sa.String(length=40), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("order_shown", sa.String(length=16), nullable=True),
        sa.Column("blind", sa.Boolean(), nullable=False),
        sa.Column("second", sa.Boolean(), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("sitting", sa.String(length=64), nullable=True),
        sa.Column("batch", sa.String(length=32), nullable=True),
        sa.Column("undoes", _ROW_NUMBER, nullable=True),
        sa.Column("state", sa.JSON(none_as_null=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name="fk_label_events_sample_id_samples"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_label_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_label_events_at", "label_events", ["at"])
    op.create_index("ix_label_events_sample_id", "label_events", ["sample_id", "id"])
    op.create_index("ix_label_events_sitting", "label_events", ["sitting", "id"])
    op.create_index("ix_label_events_undoes", "label_events", ["undoes"])


def downgrade() -> None:

    op.drop_table("label_events")
    op.drop_table("training_runs")

    op.drop_table("samples")
    op.drop_table("pending_deletions")
    op.drop_table("operators")
    op.drop_table("facts")
