"""The runs of the loop that are asked for, and those that were written already."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

#: Steps of the learning that an ablation takes away, each alone.
ABLATIONS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no interpolation": {"interpolate": False},
    "no distillation": {"distillation": 0.0, "mixtures": 0.0},
    "no mixtures of replayed faces": {"mixtures": 0.0},
    "no varied copies": {"copies": 0},
    "no balance by label": {"class_balance": 0.0},
    "no replay": {"new_share": 1.0},
    "no trust in the champion's answer": {"trust": 1.0},
    "no correction for visitors": {"domains": False},
    "no early stopping": {"fewest_rounds": 3},
    "no average over rounds": {"average": 0.0},
    "no shares put back": {"shares": 0.0},
    "no average with the folds": {"average_folds": False},
}

#: Shares of wrong labels that `--all` adds, and batches of decisions that must be refused.
NOISES = (0.3, 0.1)
POISONS = ("shuffled", "swapped")


@dataclass(frozen=True)
class Cell:
    """One run of the loop.

    Attributes:
        order: `queue` or `random`, in which faces are decided.
        corrections: how many decisions, the audit slice's included.
        noise: share of them that name a wrong label.
        poison: "" or one of `POISONS`.
        knobs: JSON of what differs in the fine-tuning.
    """

    model: str
    order: str
    corrections: int
    seed: int
    noise: float
    poison: str
    knobs: str

    @classmethod
    def of(cls, row: dict[str, Any]) -> Cell:
        """The cell that a row was written for."""
        return cls(**{field.name: row[field.name] for field in fields(cls)})

    def key(self) -> tuple[Any, ...]:
        """What `--resume` goes by."""
        return tuple(getattr(self, field.name) for field in fields(self))


def grid(arguments: argparse.Namespace, model: str) -> list[Cell]:
    """The cells that the command line asks for, those with most decisions first.

    What decides stands first, so that a run that is cut short has measured it.
    """
    knobs = [arguments.knobs]
    if arguments.ablate:
        knobs = [json.dumps(change) for change in ABLATIONS.values()]
    counts = sorted((int(count) for count in arguments.corrections.split(",")), reverse=True)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    cells = [
        Cell(model, order, count, seed, arguments.noise, arguments.poison, change)
        for count in counts
        for order in arguments.orders.split(",")
        for seed in seeds
        for change in knobs
    ]
    if arguments.all:
        hard = [
            Cell(model, "queue", counts[0], seed, noise, "", arguments.knobs)
            for noise in NOISES
            for seed in seeds
        ]
        hard += [
            Cell(model, "queue", counts[0], seeds[0], 0.0, poison, arguments.knobs)
            for poison in POISONS
        ]
        first = len(seeds) * len(knobs)
        cells = cells[:first] + hard + cells[first:]
    return cells


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows written so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
