"""The table and the curves of a learning benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def said(row: dict[str, Any]) -> str:
    """A line about a cell that is done."""
    cell = f"{row['order']} {row['corrections']} seed {row['seed']}"
    cell += f" noise {row['noise']:g} {row['poison']} {row['knobs']}"
    gains = [f"{100 * row[w]['unseen_gain']:+.1f}" for w in ("challenger", "served") if row[w]]
    base = [f"{100 * row[w]['base_gain']:+.1f}" for w in ("challenger",) if row[w]]
    seconds = f"{row.get('seconds', 0):.0f} s"
    return f"{cell}: {row['outcome']}, unseen {gains}, base {base}, {seconds}"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Means over seeds, a line for each kind of cell, as Markdown."""
    kinds: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        kind = (
            row["model"],
            row["order"],
            row["corrections"],
            row["noise"],
            row["poison"],
            row["knobs"],
        )
        kinds.setdefault(kind, []).append(row)
    lines = [
        "| model | order | wrong labels | corrections | challenger, unseen people | served, unseen "
        "people | served, base | promoted | seconds | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (model, order, corrections, noise, poison, knobs), group in sorted(kinds.items()):
        share = sum(row["outcome"] == "promoted" for row in group)
        name = model.split("-", 1)[-1] + ("" if knobs == "{}" else f" {knobs}")
        cells = [name, order, poison or f"{noise:.0%}", str(corrections)]
        for who, what in (("challenger", "unseen"), ("served", "unseen"), ("served", "base")):
            measured = [row[who] for row in group if row[who] and what in row[who]]
            values = [row[what] for row in measured]
            gains = [100 * row[f"{what}_gain"] for row in measured]
            cells.append(
                f"{np.mean(values):.3f} ({np.mean(gains):+.1f})" if len(values) else "none"
            )
        cells.append(f"{share} of {len(group)}" if corrections else "")
        cells.append(f"{np.mean([row.get('seconds', 0) for row in group]):.0f}")
        cells.append(f"{max(row.get('peak_mb', 0) for row in group):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Challenger and served model against corrections, one panel for people and one for base."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plain = [row for row in rows if not row["noise"] and not row["poison"] and row["knobs"] == "{}"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, what, title in zip(
        axes, ("unseen", "base"), ("Unseen people (balanced)", "Base data"), strict=True
    ):
        for order, colour in zip(("queue", "random"), ("C0", "C1"), strict=True):
            for who, style in (("challenger", "--"), ("served", "-")):
                points = sorted({row["corrections"] for row in plain if row["order"] == order})
                means, errors = [], []
                for point in points:
                    values = [
                        row[who][what]
                        for row in plain
                        if row["order"] == order and row["corrections"] == point and row[who]
                    ]
                    means.append(np.mean(values))
                    errors.append(np.std(values) / max(1, len(values)) ** 0.5)
                if points:
                    axis.errorbar(
                        points, means, errors, color=colour, ls=style, marker=".", capsize=2,
                        label=f"{who}, {order} order",
                    )  # fmt: skip
        axis.set(xlabel="corrections", ylabel="accuracy", title=title)
    axes[0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
