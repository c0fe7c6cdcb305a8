"""Plots of a training or an evaluation, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

matplotlib.use("Agg")
import itertools

from matplotlib import pyplot as plt

_DPI = 110


def plot_history(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Loss and validation figures over the epochs, the stages told apart.

    Args:
        history: one row for each epoch, as `Trainer` keeps it.
    """
    epochs = np.arange(1, len(history) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name in ("loss", "val_loss"):
        values = [row.get(name, np.nan) for row in history]
        if np.isfinite(values).any():
            left.plot(
                epochs, values, marker=".", label="training" if name == "loss" else "validation"
            )
    left.set(xlabel="epoch", ylabel="loss", title="Loss")
    left.legend(frameon=False)
    for name in ("accuracy", "ferplus_accuracy", "balanced_accuracy"):
        values = [row.get(name, np.nan) for row in history]
        if np.isfinite(values).any():
            right.plot(epochs, values, marker=".", label=name.replace("_", " "))
    right.set(xlabel="epoch", title="Validation", ylim=(0, 1))
    right.legend(frameon=False, loc="lower right")
    for before, after in itertools.pairwise(epochs):
        keys = ("stage", "size")
        if any(history[before - 1].get(k) != history[after - 1].get(k) for k in keys):
            for axis in (left, right):
                axis.axvline((before + after) / 2, color="0.7", lw=0.8, ls=":")
    _save(figure, path)


def plot_confusion(
    confusion: Sequence[Sequence[int]],
    labels: Sequence[str],
    path: Path,
    words: tuple[str, str] = ("truth", "answer"),
) -> None:
    """Confusion matrix (k, k) of counts, rows the truth, shaded by the share of each row."""
    counts = np.asarray(confusion, float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    side = 1.6 + 0.62 * len(labels)
    figure, axis = plt.subplots(figsize=(side + 0.6, side), layout="constrained")
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(len(labels)):
        for column in range(len(labels)):
            axis.text(
                column,
                row,
                f"{shares[row, column]:.0%}\n{int(counts[row, column])}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if shares[row, column] > 0.55 else "black",
            )
    axis.set_xticks(range(len(labels)), labels, rotation=40, ha="right")
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel=words[1], ylabel=words[0])
    _save(figure, path)


def plot_per_class(per_class: dict[str, dict[str, float]], path: Path) -> None:
    """Precision, recall and F1 of each label as grouped bars."""
    labels = list(per_class)
    places = np.arange(len(labels))
    figure, axis = plt.subplots(figsize=(1.8 + 0.85 * len(labels), 3.2), layout="constrained")
    for offset, name in zip((-0.27, 0.0, 0.27), ("precision", "recall", "f1"), strict=True):
        axis.bar(places + offset, [per_class[label][name] for label in labels], 0.25, label=name)
    axis.set_xticks(places, labels, rotation=30, ha="right")
    axis.set(ylim=(0, 1))
    axis.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.16))
    _save(figure, path)


def plot_reliability(
    confidence: npt.NDArray[Any], correct: npt.NDArray[np.bool_], path: Path, bins: int = 10
) -> None:
    """Accuracy against confidence in equal bins, with how many faces fall into each.

    Args:
        confidence: probability of the top label, (n,).
        correct: whether it is right, (n,).
    """
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    centres = (np.arange(bins) + 0.5) / bins
    counts = np.bincount(bin_of, minlength=bins)
    right = np.bincount(bin_of, weights=correct, minlength=bins)
    accuracy = np.divide(right, counts, out=np.full(bins, np.nan), where=counts > 0)
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(4.2, 4.6), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    top.plot([0, 1], [0, 1], color="0.6", lw=1, ls="--")
    top.bar(centres, accuracy, width=0.9 / bins)
    top.set(ylabel="accuracy", ylim=(0, 1), title="Reliability")
    bottom.bar(centres, counts, width=0.9 / bins, color="0.6")
    bottom.set(xlabel="confidence", ylabel="faces", xlim=(0, 1))
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)
