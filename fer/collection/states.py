"""What label events change about a sample, as one value that can be stored and restored."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from fer.collection.tables import DECIDED, Opinion, Sample, Status, Waiting


@dataclass(frozen=True)
class State:
    """The part of a sample's row that decisions change."""

    status: str = Status.PENDING
    final_label: str | None = None
    decided_at: str | None = None
    decided_by: str | None = None
    opinion: str = Opinion.NONE
    second_by: str | None = None
    second_kind: str | None = None
    second_label: str | None = None

    @classmethod
    def of(cls, sample: Sample) -> State:
        """The state that `sample` is in."""
        return cls(
            status=sample.status,
            final_label=sample.final_label,
            decided_at=sample.decided_at.isoformat() if sample.decided_at else None,
            decided_by=sample.decided_by,
            opinion=sample.opinion,
            second_by=sample.second_by,
            second_kind=sample.second_kind,
            second_label=sample.second_label,
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> State:
        """The state that `to_json` wrote."""
        return cls(**value)

    def to_json(self) -> dict[str, Any]:
        """As an event stores it."""
        return asdict(self)

    def apply(self, sample: Sample, retention: Retention) -> None:
        """Put `sample` into this state; queue and expiry follow."""
        sample.status = self.status
        sample.final_label = self.final_label
        sample.decided_at = datetime.fromisoformat(self.decided_at) if self.decided_at else None
        sample.decided_by = self.decided_by
        sample.opinion = self.opinion
        sample.second_by = self.second_by
        sample.second_kind = self.second_kind
        sample.second_label = self.second_label
        sample.queue = waiting_in(sample)
        sample.expires_at = retention.expires_at(sample)


@dataclass(frozen=True)
class Retention:
    """How long samples are kept: `undecided` from when they were kept, `decided` from then on."""

    undecided: timedelta
    decided: timedelta

    def expires_at(self, sample: Sample) -> datetime:
        """When `sample` goes."""
        if sample.status in DECIDED and sample.decided_at is not None:
            return sample.decided_at + self.decided
        return sample.created_at + self.undecided


def waiting_in(sample: Sample) -> Waiting | None:
    """The queue that a sample waits in, or None.

    The audit slice comes first: a sample of it is in no other queue before it was decided blind.
    """
    if sample.status == Status.PENDING:
        return Waiting.AUDIT if sample.audit else Waiting.MAIN
    if sample.status == Status.DELETED:
        return None
    if sample.opinion == Opinion.WANTED:
        return Waiting.SECOND
    if sample.opinion == Opinion.DIFFERS:
        return Waiting.DIFFERENCES
    return None
