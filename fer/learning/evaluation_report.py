"""An evaluation as plots, contact sheets, Markdown and HTML.

The sheets show faces of the data: keep the folder to yourself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from fer.labels import LabelSet
from fer.learning import reports
from fer.learning.assessment import Assessment
from fer.learning.comparison import write_json
from fer.learning.documents import Block, Document, Heading, Items, Paragraph, Picture, Table
from fer.learning.report_texts import ReportTexts

#: Faces on a contact sheet, in rows of `_COLUMNS`.
SHEET = 24
_COLUMNS = 6

_FIGURES = ("ferplus_accuracy", "accuracy", "balanced_accuracy", "macro_f1", "ece")


def write_evaluation(
    found: Assessment,
    labels: LabelSet,
    folder: Path,
    texts: ReportTexts,
    *,
    model: str,
    data: str,
    seed: int = 0,
) -> None:
    """Write `figures.json`, `report.md`, `report.html`, the plots and two contact sheets.

    Args:
        labels: of the model.
        folder: made if it is missing.
        model, data: what to call the version and the data.
        seed: of the random sample.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = found.figures
    write_json(folder / "figures.json", {"model": model, "data": data} | figures)
    lead = texts("evaluate.lead", model=model, n=texts.number(figures["n"], 0))
    if figures["faces_missed"]:
        lead += " " + texts("evaluate.missed", n=texts.number(figures["faces_missed"], 0))
    blocks: list[Block] = [Paragraph(lead), _main_table(figures, texts)]
    blocks += _by_label(figures, folder, texts)
    if len(found.faces):
        blocks += _reliability(found, folder, texts)
        blocks += _mistakes(found, labels, folder, texts)
        blocks += _sample(found, labels, folder, texts, seed)
    for name, rows in figures["slices"].items():
        blocks += [Heading(texts(f"evaluate.{name}")), Paragraph(texts(f"evaluate.{name}_text"))]
        blocks.append(part_table(rows, "slice", texts))
    groups = figures.get("groups")
    if groups is not None:
        for column, rows in groups["columns"].items():
            blocks += [Heading(column), part_table(rows, "group", texts)]
        unnamed = texts.number(groups["unnamed"], 0)
        blocks.append(Paragraph(texts("evaluate.groups_text", unnamed=unnamed)))
    blocks.append(Paragraph(texts("evaluate.private")))
    Document(texts("evaluate.title", data=data), texts.language, blocks).write(folder)


def _main_table(figures: dict[str, Any], texts: ReportTexts) -> Table:
    rows = [
        [
            texts(f"evaluate.{name}"),
            texts.number(figures[name]),
            texts.interval(*figures[f"{name}_interval"]) if f"{name}_interval" in figures else "",
        ]
        for name in _FIGURES
        if name in figures
    ]
    return Table([texts("evaluate.figure"), "", texts("evaluate.interval")], rows)


def part_table(rows: Sequence[dict[str, Any]], kind: str, texts: ReportTexts) -> Table:
    """Slices or groups as a table: each figure with its interval, and n."""
    names = [name for name in _FIGURES[:3] if any(name in row for row in rows)]

    def cell(row: dict[str, Any], name: str) -> str:
        if name not in row:
            return ""
        return f"{texts.number(row[name])} ({texts.interval(*row[f'{name}_interval'])})"

    return Table(
        [texts(f"evaluate.{kind}"), "n", *(texts(f"evaluate.{name}") for name in names)],
        [[row[kind], texts.number(row["n"], 0), *(cell(row, n) for n in names)] for row in rows],
    )


def _by_label(figures: dict[str, Any], folder: Path, texts: ReportTexts) -> list[Block]:
    reports.plot_confusion(
        figures["confusion"],
        [texts.label(name) for name in figures["labels"]],
        folder / "confusion.png",
        (texts("truth"), texts("answer")),
    )
    rows = [
        [
            texts.label(label),
            *(texts.number(row[name]) for name in ("precision", "recall", "f1")),
            texts.number(row["n"], 0),
        ]
        for label, row in figures["per_class"].items()
    ]
    header = [texts("label"), *(texts(f"evaluate.{n}") for n in ("precision", "recall", "f1")), "n"]
    return [
        Heading(texts("evaluate.by_label")),
        Table(header, rows),
        Picture("confusion.png", texts("evaluate.confusion_alt")),
    ]


def _reliability(found: Assessment, folder: Path, texts: ReportTexts) -> list[Block]:
    reports.plot_reliability(
        found.probabilities.max(axis=1), found.correct, folder / "reliability.png"
    )
    rows = [
        [
            f"{texts.share(row['from'])} – {texts.share(row['to'])}",
            texts.number(row["n"], 0),
            texts.share(row["confidence"]),
            texts.share(row["accuracy"]),
            texts.interval(*row["accuracy_interval"]),
        ]
        for row in found.figures["reliability"]
    ]
    names = ("bin", "n", "confidence", "right", "interval")
    return [
        Heading(texts("evaluate.reliability")),
        Paragraph(texts("evaluate.reliability_text")),
        Picture("reliability.png", texts("evaluate.reliability_alt")),
        Table([texts(f"evaluate.{name}") for name in names], rows),
    ]


def _mistakes(found: Assessment, labels: LabelSet, folder: Path, texts: ReportTexts) -> list[Block]:
    confidence = found.probabilities.max(axis=1)
    wrong = np.flatnonzero(~found.correct)
    rows = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHEET]
    if not len(rows):
        return []
    draw_sheet(found, labels, rows, folder / "mistakes.png", texts)
    return [
        Heading(texts("evaluate.mistakes")),
        Paragraph(texts("evaluate.mistakes_text")),
        Picture("mistakes.png", texts("evaluate.mistakes_alt")),
        Items([f"{found.faces.names[row]}: {caption(found, labels, row, texts)}" for row in rows]),
    ]


def _sample(
    found: Assessment, labels: LabelSet, folder: Path, texts: ReportTexts, seed: int
) -> list[Block]:
    drawn = np.random.default_rng(seed).permutation(len(found.faces))[:SHEET]
    draw_sheet(found, labels, drawn, folder / "sample.png", texts)
    return [
        Heading(texts("evaluate.sample")),
        Paragraph(texts("evaluate.sample_text", seed=seed)),
        Picture("sample.png", texts("evaluate.sample_alt")),
    ]


def caption(found: Assessment, labels: LabelSet, row: int, texts: ReportTexts) -> str:
    """Truth, what else the votes count as right, and the top three of one face."""
    own = found.faces.labels[row]
    said = texts.label(labels[own])
    votes = [i for i in np.flatnonzero(found.accepted[row]) if i != own]
    if votes:
        said += f" ({'/'.join(texts.label(labels[i]) for i in votes)})"
    top = np.argsort(-found.probabilities[row], kind="stable")[:3]
    answers = [
        f"{texts.label(labels[i])} {texts.number(100 * found.probabilities[row, i], 0)} %"
        for i in top
    ]
    return f"{said} → {', '.join(answers)}"


def draw_sheet(
    found: Assessment,
    labels: LabelSet,
    rows: npt.NDArray[np.int64],
    path: Path,
    texts: ReportTexts,
) -> None:
    """Draw faces with truth and top three, wrong ones in red, as one PNG."""
    height = -(-len(rows) // _COLUMNS)
    figure, axes = plt.subplots(
        height, _COLUMNS, figsize=(1.75 * _COLUMNS, 2.45 * height), layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, row in zip(axes.flat, rows, strict=False):
        axis.imshow(found.faces.crops[row])
        truth, answers = caption(found, labels, row, texts).split(" → ")
        colour = "black" if found.correct[row] else "#b91c1c"
        lines = [truth, *answers.split(", ")]
        axis.set_title("\n".join(lines), fontsize=7, color=colour, parse_math=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
