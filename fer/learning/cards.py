"""The model card of a version: what it learned from, how good it is, what it is not for."""

from __future__ import annotations

from typing import Any

from fer.manifest import DataSource

NOT_FOR = (
    "Not for decisions about people: hiring, schooling, policing, health, credit or insurance. "
    "It guesses how an expression on a picture would be named, not what a person feels. In the "
    "European Union, emotion recognition at work and in education is forbidden "
    "(AI Act, Article 5(1)(f)), and people must be told when it looks at them (Article 50(3))."
)


def make_card(
    *,
    title: str,
    version: str,
    architecture: str,
    parameters: int,
    crop_size: int,
    image_size: int,
    data: tuple[DataSource, ...],
    settings: dict[str, Any],
    metrics: dict[str, Any],
    parent: str | None = None,
    not_for: str = NOT_FOR,
    notes: str = "",
) -> str:
    """A card in Markdown.

    Args:
        metrics: as in the manifest: the figures of `fer evaluate` on one split, intervals as
            `<figure>_interval`, and under `on` which data they were measured on.
    """
    lines = [f"# {title}", "", f"Version `{version}`" + (f", from `{parent}`." if parent else ".")]
    lines += [
        "",
        f"{architecture}, {parameters:,} parameters; takes {crop_size}×{crop_size} crops of faces, "
        f"seen at {image_size}×{image_size}.",
        "",
        "## Data",
        "",
    ]
    for source in data:
        extent = f" ({source.pictures:,} pictures)" if source.pictures else ""
        terms = f" Terms: {source.terms}" if source.terms else ""
        lines.append(f"- {source.name}{extent}.{terms}")
    lines += ["", "## Figures", "", f"Measured on {metrics.get('on', 'the validation split')}."]
    lines += ["", "| figure | value | 95 % interval |", "|---|---|---|"]
    names = {
        "ferplus_accuracy": "accuracy against the FER+ majority",
        "accuracy": "accuracy against the data set's labels",
        "balanced_accuracy": "balanced accuracy",
        "macro_f1": "macro F1",
        "ece": "expected calibration error",
    }
    for key, name in names.items():
        if key in metrics:
            low_high = metrics.get(f"{key}_interval")
            interval = f"{low_high[0]:.3f}…{low_high[1]:.3f}" if low_high else ""
            lines.append(f"| {name} | {metrics[key]:.3f} | {interval} |")
    lines += ["", "## By label", "", "| label | precision | recall | F1 | pictures |"]
    lines.append("|---|---|---|---|---|")
    for label, row in metrics.get("per_class", {}).items():
        cells = " | ".join(f"{row[name]:.2f}" for name in ("precision", "recall", "f1"))
        lines.append(f"| {label} | {cells} | {row['n']} |")
    lines += ["", *_weaknesses(metrics)]
    if metrics.get("confusion"):
        labels = metrics["labels"]
        lines += ["", "## Confusion", "", "Rows are the truth, columns the answers.", ""]
        lines.append("| | " + " | ".join(labels) + " |")
        lines.append("|---" * (len(labels) + 1) + "|")
        for label, row in zip(labels, metrics["confusion"], strict=True):
            lines.append(f"| **{label}** | " + " | ".join(str(count) for count in row) + " |")
    lines += ["", "## Recipe", ""]
    lines.append(", ".join(f"{name} {value}" for name, value in settings.items()))
    if notes:
        lines += ["", "## Notes", "", notes]
    lines += ["", "## What it is not for", "", not_for, ""]
    return "\n".join(lines)


def _weaknesses(metrics: dict[str, Any]) -> list[str]:
    """The labels with the lowest recall, and what they are taken for."""
    labels, confusion = metrics.get("labels", []), metrics.get("confusion", [])
    rows = metrics.get("per_class", {})
    seen = [label for label in labels if rows.get(label, {}).get("n")]
    worst = sorted(seen, key=lambda label: float(rows[label]["recall"]))[:3]
    lines = ["## Where it fails", ""]
    for label in worst:
        counts = list(confusion[labels.index(label)])
        counts[labels.index(label)] = -1
        taken_for = labels[counts.index(max(counts))]
        lines.append(
            f"- {label}: recall {rows[label]['recall']:.2f}, most often taken for {taken_for}."
        )
    return lines
