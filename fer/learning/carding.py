"""A new card for a version that is there already: measured again, from its own validation data.

Weights, temperature and replay stay as they are.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fer.errors import DataError
from fer.learning.assessment import assess, in_model_order
from fer.learning.cards import make_card
from fer.learning.datasets import load_faces, open_dataset, read_votes
from fer.learning.layouts import TEST, TRAIN, VALIDATION
from fer.learning.material import open_model
from fer.learning.measuring import add_int8, assess_faces, latency, write_plots
from fer.learning.runs import measured_on
from fer.learning.versions import rewrite_files
from fer.manifest import Manifest
from fer.registry import CARD_FILE, INT8_FILE, LITERT_FILE, Registry
from fer.vision.classifier import Classifier

_METRICS = "metrics.json"


def renew_card(
    registry: Registry,
    version: str,
    data: Path,
    votes: Path | None = None,
    *,
    elsewhere: Sequence[Path] = (),
    int8: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Measure a version again, and write its card, plots, `metrics.json` and manifest.

    Args:
        data: what it was trained on, with its validation split.
        votes: FER+ votes, where it was trained towards them.
        elsewhere: other labelled pictures to measure end to end, the face found first.
        int8: make the int8 file again too, from the training split.

    Raises:
        DataError: the data is not what the version was trained on, or came without a validation
            split, so that nobody can tell which pictures it has not seen.
    """
    manifest = registry.manifest(version)
    dataset = in_model_order(open_dataset(data), manifest.label_set)
    known = {source.sha256 for source in manifest.data} - {None}
    if known and dataset.sha256() not in known:
        raise DataError(f"{data} is not the data that {version} was trained on.")
    if VALIDATION not in dataset.splits():
        raise DataError(f"{data} came without a validation split: {version} may have seen it all.")
    read = None if votes is None else read_votes(votes)
    litert = registry.verified_file(version, LITERT_FILE)
    classifier = Classifier(manifest, litert, threads=1)
    validation = load_faces(dataset, dataset.split(VALIDATION), manifest.crop_size)
    say(f"Measuring {len(validation)} faces.")
    found = assess_faces(classifier, validation, read)
    metrics: dict[str, Any] = found.figures | {"on": measured_on(data.name)}
    if TEST in dataset.splits():
        tested = load_faces(dataset, dataset.split(TEST), manifest.crop_size)
        metrics["test"] = assess_faces(classifier, tested, read).figures
    metrics["latency"] = latency(classifier, litert)
    metrics["elsewhere"] = [_end_to_end(registry, version, path, say) for path in elsewhere]
    folder = registry.path(version)
    if notes := manifest.metrics.get("notes") or _notes_of(folder):
        metrics["notes"] = notes
    with tempfile.TemporaryDirectory(dir=registry.folder, prefix=".new-card-") as place:
        new = Path(place)
        if int8:
            say("Making the int8 file.")
            train = load_faces(dataset, dataset.split(TRAIN), manifest.crop_size)
            model = open_model(registry, version)
            metrics["int8"] = add_int8(
                new, manifest, model, train.crops, validation, read, metrics, say
            )
        elif "int8" in manifest.metrics:
            metrics["int8"] = manifest.metrics["int8"]
        history = _history_of(folder)
        write_plots(new, found, history)
        document = json.dumps({"metrics": metrics, "history": history}, indent=1) + "\n"
        (new / _METRICS).write_text(document, encoding="utf-8")
        # As the manifest will read it, so that the same manifest makes the same card.
        renewed = manifest.model_copy(update={"metrics": json.loads(json.dumps(metrics))})
        (new / CARD_FILE).write_text(make_card(renewed), encoding="utf-8")
        files = dict(manifest.files)
        if int8 and INT8_FILE in files and not (new / INT8_FILE).exists():
            del files[INT8_FILE]
            (folder / INT8_FILE).unlink(missing_ok=True)
        contents = {file.name: file.read_bytes() for file in sorted(new.iterdir())}
    return rewrite_files(registry, manifest, contents, files=files, metrics=renewed.metrics)


def _end_to_end(
    registry: Registry, version: str, path: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    say(f"Measuring {path.name} end to end.")
    figures = assess(registry, version, path, detect=True).figures
    names = ("accuracy", "balanced_accuracy", "macro_f1", "ece")
    kept = {key: figures[key] for name in names for key in (name, f"{name}_interval")}
    return (
        kept | {name: figures[name] for name in ("n", "faces_missed", "slices")} | {"on": path.name}
    )


def _history_of(folder: Path) -> list[dict[str, Any]]:
    try:
        kept = json.loads((folder / _METRICS).read_text(encoding="utf-8"))
        return list(kept.get("history") or [])
    except (OSError, ValueError, AttributeError):
        return []  # a retrained or foreign version keeps none


def _notes_of(folder: Path) -> str:
    """Notes of a card that was made before manifests kept them."""
    try:
        card = (folder / CARD_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    found = re.search(r"^## Notes\n\n(.*?)\n\n## ", card, re.M | re.S)
    return found[1] if found else ""
