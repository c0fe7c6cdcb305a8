"""The model card of a version: what it learned from, how good it is, what it is not for.

Everything that it says comes from the manifest, so that it can be made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fer.manifest import Manifest

NOT_FOR = (
    "Not for decisions about people: hiring, schooling, policing, health, credit or insurance. "
    "It guesses how an expression on a picture would be named, not what a person feels. In the "
    "European Union, emotion recognition at work and in education is forbidden "
    "(AI Act, Article 5(1)(f)), and people must be told when it looks at them (Article 50(3))."
)

#: Figures of the first table, with the names that they have there.
FIGURES = {
    "ferplus_accuracy": "accuracy against the FER+ majority",
    "accuracy": "accuracy against the data set's labels",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "ece": "expected calibration error",
}

_SLICES = {
    "brightness": "brightness (mean of the grey crop, 0 to 255)",
    "sharpness": "sharpness (variance of the Laplacian; low is blurred)",
    "size": "size of the face in pixels",
    "roll": "how far the head leans, in degrees",
}


def make_card(manifest: Manifest) -> str:
    """A card in Markdown.

    Args:
        manifest: its `metrics` hold the figures of `fer evaluate` on one split, intervals as
            `<figure>_interval`, under `on` which data they were measured on, and where they were
            measured `test`, `elsewhere`, `latency`, `int8` and `notes`. What is not there is left
            out.
    """
    metrics = manifest.metrics
    parent = f", from `{manifest.parent}`" if manifest.parent else ""
    lines = [f"# {manifest.title or manifest.name}", "", f"Version `{manifest.version}`{parent}."]
    lines += [
        "",
        f"{manifest.architecture}, {manifest.parameters or 0:,} parameters; takes "
        f"{manifest.crop_size}×{manifest.crop_size} crops of faces, seen at "
        f"{manifest.image_size}×{manifest.image_size}.",
        *_data(manifest),
        *_figures(metrics),
        *_by_label(metrics),
        *_weaknesses(metrics),
        *_slices(metrics),
        *_confusion(metrics),
        *_calibration(metrics, manifest.temperature),
        *_latency(metrics),
        "",
        "## Recipe",
        "",
        ", ".join(f"{name} {value}" for name, value in manifest.settings.items()),
    ]
    if metrics.get("notes"):
        lines += ["", "## Notes", "", str(metrics["notes"])]
    lines += ["", "## What it is not for", "", manifest.not_for or NOT_FOR, ""]
    return "\n".join(lines)


def _data(manifest: Manifest) -> Iterator[str]:
    yield from ("", "## Data", "")
    for source in manifest.data:
        extent = f" ({source.pictures:,} pictures)" if source.pictures else ""
        terms = f" Terms: {source.terms}" if source.terms else ""
        yield f"- {source.name}{extent}.{terms}"


def _figures(metrics: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## Figures", "")
    on = metrics.get("on", "the validation split")
    yield f"Measured on {on}, by the LiteRT file that serves."
    yield from ("", "| figure | value | 95 % interval |", "|---|---|---|")
    yield from _rows(metrics)
    if metrics.get("test"):
        yield from ("", "On the test split, which chose nothing:", "")
        yield from ("| figure | value | 95 % interval |", "|---|---|---|")
        yield from _rows(metrics["test"])
    for other in metrics.get("elsewhere", ()):
        how = "the face found first, a missed face counted as an error"
        yield from ("", f"On {other['on']} ({other['n']:,} pictures; {how}):", "")
        yield from ("| figure | value | 95 % interval |", "|---|---|---|")
        yield from _rows(other)
        yield f"| faces missed | {other['faces_missed']} | |"


def _rows(metrics: Mapping[str, Any]) -> Iterator[str]:
    for key, name in FIGURES.items():
        if key in metrics:
            yield f"| {name} | {metrics[key]:.3f} | {_interval(metrics.get(f'{key}_interval'))} |"


def _interval(low_high: Sequence[float] | None) -> str:
    return f"{low_high[0]:.3f}…{low_high[1]:.3f}" if low_high else ""


def _by_label(metrics: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "## By label", "", "| label | precision | recall | F1 | pictures |")
    yield "|---|---|---|---|---|"
    for label, row in metrics.get("per_class", {}).items():
        cells = " | ".join(f"{row[name]:.2f}" for name in ("precision", "recall", "f1"))
        yield f"| {label} | {cells} | {row['n']} |"


def _weaknesses(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The labels with the lowest recall and what they are taken for, and the weakest slices."""
    labels, confusion = metrics.get("labels", []), metrics.get("confusion", [])
    rows = metrics.get("per_class", {})
    seen = [label for label in labels if rows.get(label, {}).get("n")]
    worst = sorted(seen, key=lambda label: float(rows[label]["recall"]))[:3]
    yield from ("", "## Where it fails", "")
    for label in worst:
        counts = list(confusion[labels.index(label)])
        counts[labels.index(label)] = -1
        taken_for = labels[counts.index(max(counts))]
        recall = f"recall {rows[label]['recall']:.2f}"
        yield f"- {label}: {recall}, most often taken for {taken_for}."
    for measured in (metrics, *metrics.get("elsewhere", ())):
        for name, parts in measured.get("slices", {}).items():
            figure = _leading(parts[0])
            low, high = (choose(parts, key=lambda row: row[figure]) for choose in (min, max))
            # Where the intervals overlap, the data show no difference.
            if low[f"{figure}_interval"][1] < high[f"{figure}_interval"][0]:
                on = "" if measured is metrics else f" ({measured['on']})"
                yield (
                    f"- {_SLICES.get(name, name)}{on}: {low[figure]:.3f} right from "
                    f"{low['slice']}, {high[figure]:.3f} from {high['slice']}."
                )


def _slices(metrics: Mapping[str, Any]) -> Iterator[str]:
    slices = metrics.get("slices")
    if not slices:
        return
    yield from ("", "## By how the face looks", "")
    yield (
        "Quarters of the same faces (roll: steps), with 95 % intervals; where two overlap, the "
        "data show no difference. Faces that were not found are in none."
    )
    yield from _slice_tables(slices)
    for other in metrics.get("elsewhere", ()):
        yield from ("", f"The same on {other['on']}:")
        yield from _slice_tables(other.get("slices", {}))


def _slice_tables(slices: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    for name, rows in slices.items():
        names = [key for key in tuple(FIGURES)[:3] if key in rows[0]]
        yield from (
            "",
            f"| {_SLICES.get(name, name)} | n | {' | '.join(FIGURES[k] for k in names)} |",
        )
        yield "|---" * (len(names) + 2) + "|"
        for row in rows:
            cells = [f"{row[key]:.3f} ({_interval(row[f'{key}_interval'])})" for key in names]
            yield f"| {row['slice']} | {row['n']} | {' | '.join(cells)} |"


def _leading(row: Mapping[str, Any]) -> str:
    return "ferplus_accuracy" if "ferplus_accuracy" in row else "accuracy"


def _confusion(metrics: Mapping[str, Any]) -> Iterator[str]:
    if not metrics.get("confusion"):
        return
    labels = metrics["labels"]
    yield from ("", "## Confusion", "", "Rows are the truth, columns the answers.", "")
    yield "| | " + " | ".join(labels) + " |"
    yield "|---" * (len(labels) + 1) + "|"
    for label, row in zip(labels, metrics["confusion"], strict=True):
        yield f"| **{label}** | " + " | ".join(str(count) for count in row) + " |"


def _calibration(metrics: Mapping[str, Any], temperature: float) -> Iterator[str]:
    if not metrics.get("reliability"):
        return
    yield from ("", "## Calibration", "")
    error = f"{metrics['ece']:.3f} ({_interval(metrics.get('ece_interval'))})"
    yield (
        f"Logits are divided by {temperature:.3f} before the softmax. Expected calibration error "
        f"{error}: of answers given with a confidence of 80 %, 80 % should be right."
    )
    yield from ("", "| confidence | faces | mean confidence | right | 95 % interval |")
    yield "|---|---|---|---|---|"
    for row in metrics["reliability"]:
        yield (
            f"| {row['from']:.1f} to {row['to']:.1f} | {row['n']} | {row['confidence']:.3f} | "
            f"{row['accuracy']:.3f} | {_interval(row['accuracy_interval'])} |"
        )


def _latency(metrics: Mapping[str, Any]) -> Iterator[str]:
    whole, small = metrics.get("latency"), metrics.get("int8")
    if not whole:
        return
    yield from ("", "## Latency and size", "")
    yield (
        f"One face at a time on one thread of {whole['machine']}, when the card was made: "
        f"{whole['milliseconds']:.1f} ms at the median, {whole['milliseconds_p95']:.1f} ms at the "
        f"95th percentile. The float file has {whole['bytes'] / 1e6:.1f} MB."
    )
    if small is None:
        return
    yield ""
    if "loss" not in small:
        yield f"There is no int8 file: {small.get('reason', 'it was not made')}"
        return
    verb = "loses" if small["loss"] >= 0 else "gains"
    lost = f"{verb} {100 * abs(small['loss']):.2f} points of accuracy"
    names = [key for key in ("ferplus_accuracy", "accuracy") if key in small]
    figures = ", ".join(f"{FIGURES[key]} {small[key]:.3f}" for key in names)
    beside = "is beside it" if small["shipped"] else "was made and is not shipped"
    yield (
        f"An int8 file, calibrated on {small['calibration']} training crops, {beside}: it "
        f"{lost} where less than 0.50 may be lost ({figures}; calibration error "
        f"{small['ece']:.3f}), has {small['bytes'] / 1e6:.1f} MB and takes "
        f"{small['milliseconds']:.1f} ms."
    )
