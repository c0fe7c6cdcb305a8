"""A row's figures, where they are kept, and the table in the document."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.web.serving import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "soak.json"
DOCUMENT = ROOT / "docs" / "reliability.md"

BEGIN, END = "<!-- soak: begin -->", "<!-- soak: end -->"


@dataclass
class Row:
    """What one fault came to.

    Attributes:
        fault: in words.
        measured: the figures in one sentence.
        wrong: what did not hold; empty where all did.
        figures: the same, for programs.
        minutes, conditions, at: how long it took, under what, and when.
    """

    fault: str
    measured: str
    wrong: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    minutes: float = 0.0
    conditions: str = ""
    at: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return asdict(self)


def write_table() -> None:
    """Put the table between its marks in the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{DOCUMENT} has no marks for the table")
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table()}\n{END}{after}", encoding="utf-8")


def table() -> str:
    """The Markdown table of everything that was measured."""
    lines = ["| Fault | Held | Measured | Conditions |", "|---|---|---|---|"]
    for row in json.loads(RESULTS.read_text(encoding="utf-8")).values():
        held = "yes" if not row["wrong"] else "no: " + "; ".join(row["wrong"])
        conditions = f"{row['conditions']}, {row['minutes']:g} min, {row['at']}"
        cells = (row["fault"], held, row["measured"], conditions)
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
