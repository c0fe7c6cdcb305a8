"""A comparison as plots, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from fer.learning.comparison import MACRO, Comparison, Contestant, write_json
from fer.learning.documents import Block, Document, Heading, Paragraph, Picture, Table
from fer.learning.report_texts import ReportTexts

_DPI = 110

#: Settings worth a column, where the models differ or not.
_SETTINGS = ("image_size", "crop_size", "epochs", "head_epochs", "unfreeze", "batch_size")
_RATES = ("learning_rate", "dropout")


def write_comparison(
    comparison: Comparison, folder: Path, texts: ReportTexts, trained: Sequence[str]
) -> None:
    """Write `report.json`, `report.md`, `report.html` and the plots.

    Args:
        trained: versions that were trained for this comparison, on the same split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", comparison.as_dict())
    _plot_confusions(comparison, texts, folder / "confusion.png")
    _plot_intervals(comparison, texts, folder / "figures.png")
    curves = [c for c in comparison.contestants if c.history]
    if curves:
        _plot_curves(curves, texts, folder / "curves.png")
    blocks: list[Block] = [Paragraph(_conditions(comparison, texts))]
    if comparison.split == "validation":
        blocks.append(Paragraph(texts("compare.validation")))
    if any(c.version not in trained for c in comparison.contestants):
        blocks.append(Paragraph(texts("compare.seen")))
    blocks += [Heading(texts("compare.table")), _table(comparison, texts)]
    blocks += [
        Heading(texts("compare.intervals")),
        Paragraph(texts("compare.intervals_text")),
        _interval_table(comparison, texts),
        Picture("figures.png", texts("compare.intervals_alt")),
    ]
    if comparison.duels:
        best = comparison.contestants[0].version
        count = len(comparison.duels)
        blocks += [
            Heading(texts("compare.paired")),
            Paragraph(texts("compare.paired_text", best=best, count=count)),
            _duel_table(comparison, texts),
        ]
    blocks += [Heading(texts("compare.confusion"))]
    blocks += [Picture("confusion.png", texts("compare.confusion_alt"))]
    if curves:
        blocks += [Heading(texts("compare.curves"))]
        blocks += [Picture("curves.png", texts("compare.curves_alt"))]
    blocks += [Heading(texts("compare.recipe")), _settings_table(comparison)]
    title = texts("compare.title", data=comparison.data)
    Document(title, texts.language, blocks).write(folder)


def _conditions(comparison: Comparison, texts: ReportTexts) -> str:
    return texts(
        "compare.on",
        n=texts.number(len(comparison.contestants[0].answers), 0),
        split=texts.split(comparison.split),
        data=comparison.data,
        labels=", ".join(texts.label(name) for name in comparison.labels),
        machine=comparison.machine,
    )


def _table(comparison: Comparison, texts: ReportTexts) -> Table:
    votes = "ferplus_accuracy" in comparison.contestants[0].figures
    keys = ["model", "accuracy", *(["votes"] if votes else []), "precision", "recall", "f1"]
    keys += ["parameters", "size", "time", "training"]
    rows = []
    for contestant in comparison.contestants:
        figures = contestant.figures
        row = [contestant.version, texts.number(figures["accuracy"])]
        row += [texts.number(figures["ferplus_accuracy"])] if votes else []
        row += [texts.number(figures[name]) for name in MACRO]
        row.append(texts.number(contestant.parameters, 0) if contestant.parameters else "")
        row.append(texts.number(contestant.size_bytes / 1e6, 1))
        row.append(texts.number(contestant.milliseconds, 1))
        row.append(
            texts("compare.unknown")
            if contestant.training_seconds is None
            else texts("compare.minutes", minutes=texts.number(contestant.training_seconds / 60, 1))
        )
        rows.append(row)
    return Table([texts(f"compare.{key}") for key in keys], rows)


def _interval_table(comparison: Comparison, texts: ReportTexts) -> Table:
    header = [texts(f"compare.{key}") for key in ("model", "accuracy", "precision", "recall", "f1")]
    rows = [
        [
            contestant.version,
            *(
                texts.interval(*contestant.figures[f"{name}_interval"])
                for name in ("accuracy", *MACRO)
            ),
        ]
        for contestant in comparison.contestants
    ]
    return Table(header, rows)


def _duel_table(comparison: Comparison, texts: ReportTexts) -> Table:
    keys = ("model", "only_best", "only_this", "difference", "p")
    rows = [
        [
            duel.version,
            str(duel.only_best),
            str(duel.only_this),
            f"{texts.number(duel.difference)} ({texts.interval(*duel.interval)})",
            f"{duel.corrected:.2g}",
        ]
        for duel in comparison.duels
    ]
    return Table([texts(f"compare.{key}") for key in keys], rows)


def _settings_table(comparison: Comparison) -> Table:
    names = (*_SETTINGS, *_RATES, "seed")
    rows = [
        [contestant.version, *(str(contestant.settings.get(name, "")) for name in names)]
        for contestant in comparison.contestants
    ]
    return Table(["", *names], rows)


def _short(contestant: Contestant) -> str:
    """A title for a plot: the architecture, and the version's time to tell two of one kind."""
    return f"{contestant.architecture}\n{contestant.version.split('-')[0]}"


def _plot_confusions(comparison: Comparison, texts: ReportTexts, path: Path) -> None:
    count, k = len(comparison.contestants), len(comparison.labels)
    columns = min(count, 3)
    rows = -(-count // columns)
    side = 1.5 + 0.45 * k
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * side, rows * side), squeeze=False, layout="constrained"
    )
    names = [texts.label(name) for name in comparison.labels]
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    for axis, contestant in zip(axes.flat, comparison.contestants, strict=False):
        counts = np.asarray(contestant.figures["confusion"], float)
        totals = counts.sum(axis=1, keepdims=True)
        shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(k, k):
            colour = "white" if shares[row, column] > 0.55 else "black"
            text = f"{100 * shares[row, column]:.0f}"
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
        axis.set_xticks(range(k), names, rotation=45, ha="right", fontsize=8)
        axis.set_yticks(range(k), names, fontsize=8)
        axis.set_title(_short(contestant), fontsize=9)
        axis.set(xlabel=texts("answer"), ylabel=texts("truth"))
    _save(figure, path)


def _plot_intervals(comparison: Comparison, texts: ReportTexts, path: Path) -> None:
    keys = {"accuracy": "accuracy", **dict(zip(("precision", "recall", "f1"), MACRO, strict=True))}
    count = len(comparison.contestants)
    figure, axes = plt.subplots(
        1, 4, figsize=(10, 1.2 + 0.5 * count), sharey=True, layout="constrained"
    )
    places = np.arange(count)[::-1]
    for axis, (text, name) in zip(axes, keys.items(), strict=True):
        for place, contestant in zip(places, comparison.contestants, strict=True):
            low, high = contestant.figures[f"{name}_interval"]
            axis.plot([low, high], [place, place], color="tab:blue", lw=2)
            axis.plot([contestant.figures[name]], [place], "o", color="tab:blue")
        axis.set_title(texts(f"compare.{text}"), fontsize=9)
        axis.grid(axis="x", color="0.9")
    axes[0].set_yticks(places, [_short(c) for c in comparison.contestants], fontsize=8)
    axes[0].set_ylim(-0.6, count - 0.4)
    _save(figure, path)


def _plot_curves(contestants: Sequence[Contestant], texts: ReportTexts, path: Path) -> None:
    figure, axes = plt.subplots(
        2,
        len(contestants),
        figsize=(3.2 * len(contestants) + 0.6, 4.8),
        squeeze=False,
        sharey="row",
        layout="constrained",
    )
    for column, contestant in enumerate(contestants):
        epochs = np.arange(1, len(contestant.history) + 1)
        for row, (name, text) in enumerate(
            (("loss", "compare.loss"), ("accuracy", "compare.validation_accuracy"))
        ):
            values = [entry.get(name, np.nan) for entry in contestant.history]
            axes[row][column].plot(epochs, values, marker=".")
            axes[row][column].grid(color="0.9")
            axes[row][0].set_ylabel(texts(text))
        axes[0][column].set_title(_short(contestant), fontsize=9)
        axes[1][column].set_xlabel(texts("epoch"))
    axes[1][0].set_ylim(0, 1)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)
