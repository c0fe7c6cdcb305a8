"""An exploration as plots, Markdown and HTML. Its pictures show faces: keep it to yourself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from fer.learning.comparison import write_json
from fer.learning.datasets import load_faces
from fer.learning.documents import Block, Document, Heading, Items, Paragraph, Picture, Table
from fer.learning.exploration import SIDE, Copies, Exploration
from fer.learning.report_texts import ReportTexts

_DPI = 110

#: Names of files and groups of copies that the page shows; report.json has them all.
_SHOWN = 10

#: Groups of near duplicates that are drawn.
_DRAWN = 12


def write_exploration(found: Exploration, folder: Path, texts: ReportTexts) -> None:
    """Write `report.json`, `report.md`, `report.html` and the plots."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", found.as_dict())
    data = found.dataset.path.name
    blocks: list[Block] = [
        Paragraph(
            texts(
                "explore.lead",
                n=texts.number(len(found.seen.pictures), 0),
                k=len(found.dataset.labels),
                unreadable=len(found.seen.unreadable),
                skipped=len(found.dataset.skipped),
            )
        )
    ]
    if found.seen.pictures:
        blocks += _counts(found, folder, texts)
        blocks += _faces(found, folder, texts)
        blocks += _sizes(found, folder, texts)
        blocks += _copies(found, folder, texts)
    blocks += _unreadable(found, texts)
    if found.votes is not None:
        blocks += _votes(found, texts)
    Document(texts("explore.title", data=data), texts.language, blocks).write(folder)


def summary(found: Exploration, texts: ReportTexts) -> list[str]:
    """The findings that matter most, a line each, for the terminal."""
    lines = [
        texts(
            "explore.lead",
            n=texts.number(len(found.seen.pictures), 0),
            k=len(found.dataset.labels),
            unreadable=len(found.seen.unreadable),
            skipped=len(found.dataset.skipped),
        ),
        _exact_text(found, texts),
    ]
    lines += _leaks(found, found.same_pixels, "explore.leak", texts)
    lines.append(_near_text(found, texts))
    lines += _leaks(found, found.near, "explore.near_leak", texts)
    if found.votes is not None:
        lines.append(_votes_text(found, texts))
    return lines


def _splits(found: Exploration) -> list[str | None]:
    present = {split for row in found.counts.values() for split in row}
    ordered: tuple[str | None, ...] = ("train", "validation", "test", None)
    return [split for split in ordered if split in present]


def _counts(found: Exploration, folder: Path, texts: ReportTexts) -> list[Block]:
    splits = _splits(found)
    labels = list(found.dataset.labels)
    names = [texts.label(label) for label in labels]
    header = [texts("label"), *(texts.split(split) for split in splits), texts("all")]
    rows = []
    for label, name in zip(labels, names, strict=True):
        values = [found.counts[label].get(split, 0) for split in splits]
        rows.append([name, *(texts.number(v, 0) for v in (*values, sum(values)))])
    sums = [sum(found.counts[label].get(split, 0) for label in labels) for split in splits]
    rows.append([texts("all"), *(texts.number(v, 0) for v in (*sums, sum(sums)))])
    figure, axis = plt.subplots(figsize=(2 + 0.9 * len(labels), 3.2), layout="constrained")
    places, width = np.arange(len(labels)), 0.8 / len(splits)
    for turn, split in enumerate(splits):
        heights = [found.counts[label].get(split, 0) for label in labels]
        axis.bar(places + (turn - (len(splits) - 1) / 2) * width, heights, width * 0.95)
    axis.legend([texts.split(split) for split in splits], frameon=False)
    axis.set_xticks(places, names, rotation=30, ha="right")
    axis.set_ylabel(texts("pictures"))
    _save(figure, folder / "counts.png")
    totals = {label: sum(found.counts[label].values()) for label in labels}
    most, least = max(totals, key=totals.__getitem__), min(totals, key=totals.__getitem__)
    ratio = texts.number(totals[most] / max(totals[least], 1), 1)
    return [
        Heading(texts("explore.counts")),
        Table(header, rows),
        Paragraph(
            texts("explore.balance", most=texts.label(most), least=texts.label(least), ratio=ratio)
        ),
        Picture("counts.png", texts("explore.counts_alt")),
    ]


def _faces(found: Exploration, folder: Path, texts: ReportTexts) -> list[Block]:
    labels = [label for label in found.dataset.labels if label in found.seen.means]
    columns = max(len(found.seen.samples.get(label, ())) for label in labels)
    figure, axes = plt.subplots(
        len(labels),
        columns,
        figsize=(columns, 1.2 * len(labels)),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for row, label in zip(axes, labels, strict=True):
        row[0].set_title(texts.label(label), fontsize=8, loc="left", pad=2)
        for axis, image in zip(row, found.seen.samples.get(label, ()), strict=False):
            axis.imshow(image)
    _save(figure, folder / "samples.png")
    figure, axes = plt.subplots(
        1, len(labels), figsize=(1.5 * len(labels), 1.9), squeeze=False, layout="constrained"
    )
    for axis, label in zip(axes[0], labels, strict=True):
        axis.imshow(found.seen.means[label], cmap="gray", vmin=0, vmax=255)
        axis.set_title(texts.label(label), fontsize=9)
        axis.set_axis_off()
    _save(figure, folder / "mean_faces.png")
    return [
        Heading(texts("explore.samples")),
        Picture("samples.png", texts("explore.samples_alt")),
        Heading(texts("explore.mean_faces")),
        Picture("mean_faces.png", texts("explore.mean_faces_alt")),
    ]


def _sizes(found: Exploration, folder: Path, texts: ReportTexts) -> list[Block]:
    seen = found.seen
    shortest = np.array(seen.sizes).min(axis=1)
    kinds = Counter(
        (f"{width}×{height}", mode, kind)
        for (width, height), mode, kind in zip(seen.sizes, seen.modes, seen.formats, strict=True)
    )
    keys = ("explore.size", "explore.mode", "explore.format", "pictures")
    rows = [[*kind, texts.number(count, 0)] for kind, count in kinds.most_common(_SHOWN)]
    labels = [label for label in found.dataset.labels if label in seen.means]
    values = [
        [b for b, p in zip(seen.brightness, seen.pictures, strict=True) if p.label == label]
        for label in labels
    ]
    names = [texts.label(label) for label in labels]
    figure, axis = plt.subplots(figsize=(2 + 0.9 * len(labels), 3.2), layout="constrained")
    axis.boxplot(values, showfliers=False)
    axis.set_xticks(range(1, len(labels) + 1), names, rotation=30, ha="right")
    axis.set(ylabel=texts("explore.mean_brightness"), ylim=(0, 255))
    _save(figure, folder / "brightness.png")
    lights = [
        [name, texts.number(float(np.mean(v)), 1), texts.number(float(np.std(v)), 1)]
        for name, v in zip(names, values, strict=True)
    ]
    header = [texts("label"), texts("explore.mean_brightness"), texts("explore.spread")]
    flat = found.flat()
    return [
        Heading(texts("explore.sizes")),
        Paragraph(
            texts(
                "explore.side",
                low=shortest.min(),
                high=shortest.max(),
                middle=texts.number(float(np.median(shortest)), 0),
            )
        ),
        Table([texts(key) for key in keys], rows),
        Heading(texts("explore.brightness")),
        Table(header, lights),
        Picture("brightness.png", texts("explore.brightness_alt")),
        Paragraph(texts("explore.flat", n=texts.number(len(flat), 0))),
        *_listed(flat, len(flat), texts),
    ]


def _exact_text(found: Exploration, texts: ReportTexts) -> str:
    return texts(
        "explore.exact_text",
        pixels=texts.number(len(found.same_pixels.groups), 0),
        pictures=texts.number(found.same_pixels.pictures, 0),
        bytes=texts.number(len(found.same_bytes.groups), 0),
        labels=texts.number(found.same_pixels.other_labels, 0),
    )


def _near_text(found: Exploration, texts: ReportTexts) -> str:
    return texts(
        "explore.near_text",
        groups=texts.number(len(found.near.groups), 0),
        pictures=texts.number(found.near.pictures, 0),
        bits=found.nearness.bits,
        correlation=texts.number(found.nearness.correlation, 2),
        labels=texts.number(found.near.other_labels, 0),
    )


def _leaks(found: Exploration, copies: Copies, key: str, texts: ReportTexts) -> list[str]:
    if len(_splits(found)) < 2:
        return [texts("explore.no_splits")]
    if not copies.leaks:
        return [texts("explore.no_leak")]
    return [
        texts(
            key,
            n=texts.number(len(rows), 0),
            earlier=texts.split(earlier or None),
            later=texts.split(later or None),
        )
        for (earlier, later), rows in copies.leaks.items()
    ]


def _copies(found: Exploration, folder: Path, texts: ReportTexts) -> list[Block]:
    blocks: list[Block] = []
    for kind, copies, text, key in (
        ("exact", found.same_pixels, _exact_text(found, texts), "explore.leak"),
        ("near", found.near, _near_text(found, texts), "explore.near_leak"),
    ):
        within = texts.number(len(copies.groups) - copies.across, 0)
        across = texts.number(copies.across, 0)
        blocks += [
            Heading(texts(f"explore.{kind}")),
            Paragraph(text),
            Paragraph(texts("explore.within", n=within, across=across)),
            Items(_leaks(found, copies, key, texts)),
        ]
        names = [
            " = ".join(found.seen.pictures[row].name for row in group[:4])
            for group in copies.groups[:_SHOWN]
        ]
        if names:
            blocks.append(Paragraph(texts("explore.examples")))
        blocks += _listed(names, len(copies.groups), texts)
    if found.near.groups:
        _draw_groups(found, folder / "near.png")
        blocks.append(Picture("near.png", texts("explore.pairs_alt")))
    return blocks


def _draw_groups(found: Exploration, path: Path) -> None:
    """The first two pictures of some groups, one above the other."""
    groups = found.near.groups[:_DRAWN]
    figure, axes = plt.subplots(
        2, len(groups), figsize=(len(groups), 2.1), squeeze=False, layout="constrained"
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for column, group in enumerate(groups):
        pair = [found.seen.pictures[row] for row in group[:2]]
        for row, image in enumerate(load_faces(found.dataset, pair, SIDE).crops):
            axes[row][column].imshow(image)
    _save(figure, path)


def _unreadable(found: Exploration, texts: ReportTexts) -> list[Block]:
    lost = [*found.seen.unreadable, *found.dataset.skipped]
    lines = [f"{name}: {reason}" for name, reason in lost]
    blocks: list[Block] = [Heading(texts("explore.unreadable"))]
    return blocks + (_listed(lines, len(lines), texts) or [Paragraph(texts("explore.none"))])


def _votes_text(found: Exploration, texts: ReportTexts) -> str:
    votes = found.votes
    assert votes is not None  # noqa: S101 - asked only where there are votes
    counted, agree = sum(votes.counted.values()), sum(votes.agree.values())
    return texts(
        "explore.votes_text",
        n=texts.number(counted, 0),
        all=texts.number(len(found.seen.pictures), 0),
        share=texts.share(agree / counted if counted else 0.0),
    )


def _votes(found: Exploration, texts: ReportTexts) -> list[Block]:
    votes = found.votes
    assert votes is not None  # noqa: S101 - called only where there are votes
    rows = []
    for label in found.dataset.labels:
        n, right = votes.counted.get(label, 0), votes.agree.get(label, 0)
        others = [
            f"{texts.label(other)} {texts.number(count, 0)}"
            for other, count in votes.instead[label].most_common(3)
        ]
        share = texts.share(right / n) if n else ""
        rows.append([texts.label(label), texts.number(n, 0), share, ", ".join(others)])
    keys = ("explore.counted", "explore.agree", "explore.instead")
    return [
        Heading(texts("explore.votes")),
        Paragraph(_votes_text(found, texts)),
        Table([texts("label"), *(texts(key) for key in keys)], rows),
    ]


def _listed(lines: Sequence[str], total: int, texts: ReportTexts) -> list[Block]:
    if not lines:
        return []
    shown = list(lines[:_SHOWN])
    if total > len(shown):
        shown.append(texts("explore.more", n=texts.number(total - len(shown), 0)))
    return [Items(shown)]


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)
