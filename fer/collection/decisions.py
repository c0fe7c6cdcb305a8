"""What a decision does to a sample, inside a transaction that somebody else opened.

Every change is one label event with the state after it, so that each can be undone or restored.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from fer.collection.identifiers import share_of
from fer.collection.states import Retention, State
from fer.collection.tables import (
    DECIDED,
    DECISIONS,
    ActorKind,
    Kind,
    LabelEvent,
    Opinion,
    Sample,
    Waiting,
)
from fer.errors import DecisionConflictError, LabelError, UnknownSampleError
from fer.labels import OTHER

#: Longest free text of "another expression", in characters.
MAX_NOTE = 200


@dataclass(frozen=True)
class Decision:
    """What an operator decided about a face.

    Attributes:
        kind: confirm, relabel, other, reject or unsure. A relabel to the prediction is a
            confirmation, so a page need not tell them apart.
        label: for a relabel.
        text: for another expression; may be empty.
        labels: the labels of the sitting; None for those of the model that read the face.

    Raises:
        LabelError: no decision of that kind, a relabel without a label, or a text too long.
    """

    kind: str
    label: str | None = None
    text: str | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in set(DECISIONS):
            raise LabelError(f"{self.kind!r} is no decision: {', '.join(DECISIONS)}.")
        if (self.kind == Kind.RELABEL) != (self.label is not None):
            raise LabelError("A relabel, and nothing else, needs a label.")
        if self.text is not None and len(self.text) > MAX_NOTE:
            raise LabelError(f"The text may have up to {MAX_NOTE} characters.", limit=MAX_NOTE)


@dataclass(frozen=True)
class Context:
    """Who decides, where and when.

    Attributes:
        order: the order that the operator was working in, or `grid`.
        sitting: names the sitting, so that undo goes back to its start and no further.
        batch: shared by the decisions that one undo takes back together.
        second_share: share of decided samples that another operator sees too.
    """

    operator: str
    now: datetime
    retention: Retention
    order: str | None = None
    sitting: str | None = None
    batch: str | None = None
    second_share: float = 0.0
    actor_kind: ActorKind = ActorKind.OPERATOR


def new_batch() -> str:
    """A name for decisions that belong together."""
    return secrets.token_hex(8)


def lock_rows(session: Session, sample_ids: Iterable[str]) -> dict[str, Sample]:
    """Rows by id, locked in one order so that two writers never wait for each other."""
    rows = session.scalars(
        sa.select(Sample)
        .where(Sample.id.in_(list(sample_ids)))
        .order_by(Sample.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {row.id: row for row in rows}


def is_blind(row: Sample, operator: str) -> bool:
    """Whether `operator` must not see what the model or others said about this row."""
    if row.queue == Waiting.AUDIT:
        return True
    return row.queue == Waiting.SECOND and row.decided_by != operator


def check_unchanged(row: Sample | None, sample_id: str, row_version: int) -> Sample:
    """The row, if nobody changed it since `row_version` was read.

    Raises:
        UnknownSampleError: there is none.
        DecisionConflictError: it changed or was deleted; `details` say what it is now.
    """
    if row is None:
        raise UnknownSampleError(f"There is no sample {sample_id!r}.", sample_id=sample_id)
    if row.deleted_at is None and row.row_version == row_version:
        return row
    if row.deleted_at is not None:
        sentence = "This face was deleted meanwhile."
    elif row.decided_by is None:
        sentence = "The decision about this face was taken back meanwhile."
    else:
        sentence = f"{row.decided_by} decided about this face meanwhile."
    raise DecisionConflictError(
        sentence,
        sample_id=sample_id,
        status=row.status,
        final_label=row.final_label,
        decided_by=row.decided_by,
        decided_at=row.decided_at.isoformat() if row.decided_at else None,
        row_version=row.row_version,
        expected=row_version,
    )


def decide(session: Session, row: Sample, decision: Decision, context: Context) -> LabelEvent:
    """Apply a decision to a locked row.

    Where the row waits for a second opinion and this is another operator's, it is noted beside
    the first decision and does not change the label.

    Raises:
        LabelError: the label is none of the sitting's nor of the model's, or a blind face is
            confirmed without a label.
    """
    # In the grid labels are in view: what is decided there is no blind second opinion.
    second = (
        row.queue == Waiting.SECOND
        and row.decided_by != context.operator
        and context.order != "grid"
    )
    blind = second or row.queue == Waiting.AUDIT
    kind, label = _resolved(row, decision, blind)
    before = row.final_label if row.status in DECIDED else row.predicted_label
    if second:
        same = DECISIONS[kind] == row.status or {kind, row.status} <= _LABELLING
        row.opinion = Opinion.AGREED if same and label == row.final_label else Opinion.DIFFERS
        row.second_by, row.second_kind, row.second_label = context.operator, kind, label
    else:
        row.status = DECISIONS[kind]
        row.final_label = label
        row.decided_at = context.now
        row.decided_by = context.operator
        row.opinion = _opinion_after(row, context)
    if row.label_error is not None or context.order == "label_error":
        row.label_error = None
        row.label_error_checked = True
    return record(
        session,
        row,
        context,
        kind=kind,
        from_label=before,
        to_label=label,
        note=(decision.text or "").strip() or None if kind == Kind.OTHER else None,
        blind=blind,
        second=second,
    )


#: Kinds and states that give a label; a second opinion agrees when the labels do.
_LABELLING = frozenset({"confirm", "relabel", "confirmed", "relabelled"})


def record(
    session: Session,
    row: Sample,
    context: Context,
    *,
    kind: str,
    from_label: str | None,
    to_label: str | None,
    note: str | None = None,
    blind: bool = False,
    second: bool = False,
    undoes: int | None = None,
) -> LabelEvent:
    """Write the event for a change that was made to `row`; its lease ends, its queue follows."""
    row.row_version += 1
    row.lease_by = None
    row.lease_until = None
    state = State.of(row)
    state.apply(row, context.retention)
    event = LabelEvent(
        sample_id=row.id,
        at=context.now,
        actor=context.operator,
        actor_kind=context.actor_kind,
        kind=kind,
        from_label=from_label,
        to_label=to_label,
        note=note,
        order_shown=context.order,
        blind=blind,
        second=second,
        row_version=row.row_version,
        sitting=context.sitting,
        batch=context.batch,
        undoes=undoes,
        state=state.to_json(),
    )
    session.add(event)
    session.flush()
    return event


def state_before(session: Session, event: LabelEvent) -> State:
    """The state that a sample was in before `event`."""
    earlier = session.scalar(
        sa.select(LabelEvent.state)
        .where(LabelEvent.sample_id == event.sample_id, LabelEvent.id < event.id)
        .order_by(LabelEvent.id.desc())
        .limit(1)
    )
    return State.from_json(earlier) if earlier is not None else State()


def go_back(
    session: Session, row: Sample, state: State, context: Context, kind: Kind, undoes: int | None
) -> LabelEvent:
    """Put a locked row into an earlier state, by a new event."""
    before = row.final_label if row.status in DECIDED else row.predicted_label
    state.apply(row, context.retention)
    after = row.final_label if row.status in DECIDED else row.predicted_label
    return record(
        session, row, context, kind=kind, from_label=before, to_label=after, undoes=undoes
    )


def _resolved(row: Sample, decision: Decision, blind: bool) -> tuple[Kind, str | None]:
    kind = Kind(decision.kind)
    if kind == Kind.CONFIRM:
        if blind:
            raise LabelError("This face is shown blind: choose a label, there is none to confirm.")
        return kind, row.predicted_label
    if kind == Kind.RELABEL:
        wanted = str(decision.label).casefold()
        known = [*(decision.labels or ()), *(row.probabilities or {})]
        match = next((label for label in known if label.casefold() == wanted), None)
        if match is None:
            raise LabelError(
                f"{decision.label!r} is none of the labels: {', '.join(dict.fromkeys(known))}.",
                label=decision.label,
                labels=", ".join(dict.fromkeys(known)),
            )
        if row.predicted_label is not None and row.predicted_label.casefold() == wanted:
            return Kind.CONFIRM, row.predicted_label
        return kind, match
    return kind, OTHER if kind == Kind.OTHER else None


def _opinion_after(row: Sample, context: Context) -> Opinion:
    """Where the second opinion stands after a first, repeated or settling decision."""
    if row.opinion in {Opinion.AGREED, Opinion.DIFFERS, Opinion.SETTLED}:
        return Opinion.SETTLED
    wanted = row.status in DECIDED and share_of("second", row.id) < context.second_share
    return Opinion.WANTED if wanted or row.opinion == Opinion.WANTED else Opinion.NONE
