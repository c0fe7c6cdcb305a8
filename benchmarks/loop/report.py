"""The table and the curves of a learning benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]


def said(row: Row) -> str:
    """A line about a cell that is done."""
    cell = f"{row['order']} {row['corrections']} seed {row['seed']}"
    cell += f" noise {row['noise']:g} {row['poison']} {row['knobs']}"
    gains = [f"{100 * row[w]['unseen_gain']:+.1f}" for w in ("challenger", "served") if row[w]]
    base = [f"{100 * row[w]['base_gain']:+.1f}" for w in ("challenger",) if row[w]]
    seconds = f"{row.get('seconds', 0):.0f} s"
    return f"{cell}: {row['outcome']}, unseen {gains}, base {base}, {seconds}"


def kind(row: Row) -> tuple[Any, ...]:
    """What rows of several seeds have in common."""
    names = ("model", "poison", "noise", "order", "corrections", "knobs")
    return tuple(row[name] for name in names)


def points(rows: Sequence[Row], who: str, what: str) -> list[float]:
    """Points won (negative: lost) of `unseen` or `base` by `challenger` or `served`."""
    return [100 * row[who][f"{what}_gain"] for row in rows if row[who] and what in row[who]]


def error(values: Sequence[float]) -> float:
    """Standard error of a mean; 0 for a single value, which shows none."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def harmful(rows: Sequence[Row]) -> int:
    """Promotions that surely made it worse.

    The paired 95 % interval lies wholly below 0 on unseen people, or below -0.01 on the base.
    """
    promoted = [row["served"] for row in rows if row["outcome"] == "promoted"]
    return sum(
        served["unseen_interval"][1] < 0 or served.get("base_interval", [0, 0])[1] < -0.01
        for served in promoted
    )


def table(rows: Sequence[Row]) -> str:
    """Points won, means over seeds with standard errors, a line for each kind of cell."""
    kinds: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(rows, key=kind):
        if row["corrections"]:
            kinds.setdefault(kind(row), []).append(row)
    lines = [
        "| model | order | wrong labels | corrections | challenger, unseen | served, unseen | "
        "served, base | promoted | CPU seconds | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (model, poison, noise, order, corrections, knobs), group in kinds.items():
        name = model.split("-", 1)[-1] + ("" if knobs == "{}" else f" {knobs}")
        cells = [name, order, poison or f"{noise:.0%}", str(corrections)]
        for who, what in (("challenger", "unseen"), ("served", "unseen"), ("served", "base")):
            won = points(group, who, what)
            spread = f" ± {error(won):.1f}" if len(won) > 1 else ""
            cells.append(f"{np.mean(won):+.1f}{spread}" if won else "none")
        cells.append(f"{sum(row['outcome'] == 'promoted' for row in group)} of {len(group)}")
        cells.append(f"{np.mean([row['cpu_seconds'] for row in group]):.0f}")
        cells.append(f"{max(row['peak_mb'] for row in group):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    lines.append(f"\nHarmful promotions: {harmful(rows)} of {len(rows)} cells.")
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Challenger and served model against corrections, one panel for people and one for base."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plain = [row for row in rows if not row["noise"] and not row["poison"] and row["knobs"] == "{}"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    titles = ("Unseen people, balanced accuracy", "Base data, accuracy")
    for axis, what, title in zip(axes, ("unseen", "base"), titles, strict=True):
        axis.axhline(0, color="0.7", lw=1)
        for order, colour in zip(("queue", "random"), ("C0", "C1"), strict=True):
            mine = [row for row in plain if row["order"] == order]
            counts = sorted({row["corrections"] for row in mine})
            for who, style, shift in (("challenger", "--", 3), ("served", "-", 0)):
                won = [
                    points([row for row in mine if row["corrections"] == count], who, what)
                    for count in counts
                ]
                if counts:
                    axis.errorbar(
                        [count + shift for count in counts],
                        [np.mean(values) for values in won],
                        [error(values) for values in won],
                        color=colour,
                        ls=style,
                        marker=".",
                        capsize=2,
                        label=f"{who}, {order} order",
                    )
        axis.set(xlabel="corrections", ylabel="points won", title=title)
    lines, names = axes[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
