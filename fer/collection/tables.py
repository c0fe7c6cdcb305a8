"""The tables, as typed SQLAlchemy models, and the words that their columns use.

The database is the truth and folders are a view of it: a file's folder is what the model
predicted, the label that counts is `Sample.final_label`, which follows the label events.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Status(StrEnum):
    """What became of a sample."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    RELABELLED = "relabelled"
    OTHER = "other"
    REJECTED = "rejected"
    UNSURE = "unsure"
    DELETED = "deleted"


#: A sample in one of these states was decided by an operator; `unsure` is no decision.
DECIDED = (Status.CONFIRMED, Status.RELABELLED, Status.OTHER, Status.REJECTED)

#: A sample in one of these states carries a label that can be trained on.
LABELLED = (Status.CONFIRMED, Status.RELABELLED)


class Waiting(StrEnum):
    """The queue that a sample waits in; None in the column when it waits in none."""

    MAIN = "main"
    AUDIT = "audit"
    SECOND = "second"
    DIFFERENCES = "differences"


class Opinion(StrEnum):
    """Where a sample stands with its second opinion."""

    NONE = "none"
    WANTED = "wanted"
    AGREED = "agreed"
    DIFFERS = "differs"
    SETTLED = "settled"


class Kind(StrEnum):
    """What a label event did."""

    SUGGEST = "suggest"
    CONFIRM = "confirm"
    RELABEL = "relabel"
    OTHER = "other"
    REJECT = "reject"
    UNSURE = "unsure"
    UNDO = "undo"
    RESTORE = "restore"


#: The kinds that are an operator's decision, and the state that each leads to.
DECISIONS: dict[Kind, Status] = {
    Kind.CONFIRM: Status.CONFIRMED,
    Kind.RELABEL: Status.RELABELLED,
    Kind.OTHER: Status.OTHER,
    Kind.REJECT: Status.REJECTED,
    Kind.UNSURE: Status.UNSURE,
}


class ActorKind(StrEnum):
    """Who caused a label event."""

    VISITOR = "visitor"
    OPERATOR = "operator"
    IMPORT = "import"
    RESTORE = "restore"


class Role(StrEnum):
    """What an operator may do; admins also retrain, promote, import and delete."""

    REVIEWER = "reviewer"
    ADMIN = "admin"


class UTCDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, on databases that know time zones and on those that do not."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive datetimes: which zone they mean is anyone's guess."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone cannot be stored")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the time back in UTC, whatever zone the connection is set to."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Base of the models; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UTCDateTime(),
        dict[str, float]: JSON(none_as_null=True),
        dict[str, Any]: JSON(none_as_null=True),
        list[float]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
    }


# SQLite numbers rows by itself only where the key is spelled INTEGER.
_ROW_NUMBER = BigInteger().with_variant(Integer(), "sqlite")


class Sample(Base):
    """One kept face.

    A forgotten or expired sample keeps its row with id, times, model version and final label;
    what tells anything about the person is blanked (`samples.BLANKED`).
    """

    __tablename__ = "samples"

    #: 12 hexadecimal digits of time, in ms, then 20 random ones: sortable and unguessable.
    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    created_at: Mapped[datetime]
    request_id: Mapped[str | None] = mapped_column(String(64))
    group_id: Mapped[str | None] = mapped_column(String(64))
    receipt_hash: Mapped[str | None] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(12))
    notice_version: Mapped[str | None] = mapped_column(String(40))
    audit: Mapped[bool]
    random_key: Mapped[int] = mapped_column(BigInteger)

    path: Mapped[str | None] = mapped_column(String(255))
    bytes: Mapped[int | None] = mapped_column(Integer)
    sha256: Mapped[str | None] = mapped_column(String(64))
    #: 256 bits as 64 hexadecimal digits.
    phash: Mapped[str | None] = mapped_column(String(64))
    width: Mapped[int | None]
    height: Mapped[int | None]
    #: [left, top, width, height] in the kept picture's pixels; may reach beyond its edge.
    face_box: Mapped[list[float] | None]
    #: Degrees, clockwise positive.
    roll: Mapped[float | None]
    detector_score: Mapped[float | None]
    face_px: Mapped[int | None]
    sharpness: Mapped[float | None]

    model_version: Mapped[str] = mapped_column(String(80))
    predicted_label: Mapped[str | None] = mapped_column(String(40))
    confidence: Mapped[float | None]
    margin: Mapped[float | None]
    probabilities: Mapped[dict[str, float] | None]

    visitor_label: Mapped[str | None] = mapped_column(String(40))
    visitor_disagreed: Mapped[bool] = mapped_column(default=False)
    status: Mapped[str] = mapped_column(String(12), default=Status.PENDING)
    final_label: Mapped[str | None] = mapped_column(String(40))
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None] = mapped_column(String(64))
    row_version: Mapped[int] = mapped_column(default=1)
    expires_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    # No index holds the lease: PostgreSQL then changes it in place, and it changes often.
    lease_by: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[datetime | None]

    #: Which queue it waits in; follows from audit, status and opinion (`states.waiting_in`).
    queue: Mapped[str | None] = mapped_column(String(12))
    #: 1 - confidence.
    uncertainty: Mapped[float | None]
    #: 1 - share of the predicted class among the samples at the last refresh.
    rarity: Mapped[float | None]
    #: Only on samples whose label is suspected to be wrong; the higher the more suspect.
    label_error: Mapped[float | None]
    #: An operator looked at the suspicion and decided: it is not raised again.
    label_error_checked: Mapped[bool] = mapped_column(default=False)

    opinion: Mapped[str] = mapped_column(String(12), default=Opinion.NONE)
    second_by: Mapped[str | None] = mapped_column(String(64))
    second_kind: Mapped[str | None] = mapped_column(String(12))
    second_label: Mapped[str | None] = mapped_column(String(40))

    __table_args__ = (
        # The orders of the review queue: each is one walk along one index, backwards.
        Index("ix_samples_queue_uncertainty", "queue", "uncertainty", "id"),
        Index("ix_samples_queue_rarity", "queue", "rarity", "uncertainty", "id"),
        Index("ix_samples_queue_disagreed", "queue", "visitor_disagreed", "uncertainty", "id"),
        Index("ix_samples_queue_id", "queue", "id"),
        Index("ix_samples_queue_random", "queue", "random_key", "id"),
        Index("ix_samples_queue_decided_by", "queue", "decided_by", "id"),
        Index(
            "ix_samples_label_error",
            "label_error",
            "id",
            sqlite_where=text("label_error IS NOT NULL"),
            postgresql_where=text("label_error IS NOT NULL"),
        ),
        Index("ix_samples_receipt_hash", "receipt_hash"),
        Index("ix_samples_group_id", "group_id"),
        Index("ix_samples_sha256", "sha256"),
        Index("ix_samples_expires_at", "expires_at"),
        # The grid's filters, each in the order that the grid shows.
        Index("ix_samples_status_id", "status", "id"),
        Index("ix_samples_predicted_label_id", "predicted_label", "id"),
        Index("ix_samples_final_label_id", "final_label", "id"),
        Index("ix_samples_model_version_id", "model_version", "id"),
    )


class LabelEvent(Base):
    """One change, or suggested change, of a sample's label; rows are only ever added.

    The one exception is `note`, free text about a face: it is blanked with the sample.
    """

    __tablename__ = "label_events"

    id: Mapped[int] = mapped_column(_ROW_NUMBER, primary_key=True, autoincrement=True)
    sample_id: Mapped[str] = mapped_column(String(32), ForeignKey("samples.id"))
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(64))
    actor_kind: Mapped[str] = mapped_column(String(12))
    kind: Mapped[str] = mapped_column(String(12))
    from_label: Mapped[str | None] = mapped_column(String(40))
    to_label: Mapped[str | None] = mapped_column(String(40))
    #: Free text of "another expression".
    note: Mapped[str | None] = mapped_column(Text)
    #: The order in which the operator was working, such as `uncertain` or `grid`.
    order_shown: Mapped[str | None] = mapped_column(String(16))
    #: Prediction and visitor's opinion were hidden when the operator decided.
    blind: Mapped[bool] = mapped_column(default=False)
    #: A second opinion: it did not change the sample's label.
    second: Mapped[bool] = mapped_column(default=False)
    #: The sample's row version after this event.
    row_version: Mapped[int]
    sitting: Mapped[str | None] = mapped_column(String(64))
    #: Shared by the events of one decision over several samples.
    batch: Mapped[str | None] = mapped_column(String(32))
    #: The event that an undo took back, or that a restore went back to.
    undoes: Mapped[int | None] = mapped_column(_ROW_NUMBER)
    #: What `states.State` held after the event, so that it can be restored.
    state: Mapped[dict[str, Any]]

    __table_args__ = (
        Index("ix_label_events_sample_id", "sample_id", "id"),
        Index("ix_label_events_sitting", "sitting", "id"),
        Index("ix_label_events_undoes", "undoes"),
        Index("ix_label_events_at", "at"),
        # A number is never used twice, so that "since event 17" keeps its meaning.
        {"sqlite_autoincrement": True},
    )


class TrainingRun(Base):
    """One run of the retraining job."""

    __tablename__ = "training_runs"

    id: Mapped[int] = mapped_column(_ROW_NUMBER, primary_key=True, autoincrement=True)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None] = mapped_column(String(12))
    reason: Mapped[str | None] = mapped_column(Text)
    champion: Mapped[str | None] = mapped_column(String(80))
    challenger: Mapped[str | None] = mapped_column(String(80))
    metrics: Mapped[dict[str, Any] | None]
    sample_ids: Mapped[list[str] | None]
    #: Newest label event that the run saw, if it trained: later ones are new to the next run.
    last_event_id: Mapped[int | None] = mapped_column(_ROW_NUMBER)

    __table_args__ = ({"sqlite_autoincrement": True},)


class Operator(Base):
    """One who reviews."""

    __tablename__ = "operators"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(12))
    created_at: Mapped[datetime]
    #: Changes with the password: sessions that carry an older one are over.
    session_epoch: Mapped[int] = mapped_column(default=1)
    #: Faces handed out so far: every fifth one comes from the audit slice.
    handed_out: Mapped[int] = mapped_column(default=0)


class OperatorSession(Base):
    """One who is signed in, under the SHA-256 of the cookie's token."""

    __tablename__ = "operator_sessions"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    operator: Mapped[str] = mapped_column(String(64))
    #: `Operator.session_epoch` at sign-in.
    epoch: Mapped[int]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]


class PendingDeletion(Base):
    """A picture whose row is blanked already and whose file still has to go."""

    __tablename__ = "pending_deletions"

    path: Mapped[str] = mapped_column(String(255), primary_key=True)
    sample_id: Mapped[str] = mapped_column(String(32))
    at: Mapped[datetime]


class Fact(Base):
    """A small value about the whole collection, such as its size or its class shares."""

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    number: Mapped[int | None] = mapped_column(BigInteger)
    value: Mapped[dict[str, Any] | None]
    at: Mapped[datetime]
