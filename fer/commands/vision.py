"""`fer predict`: read the expressions in pictures on disk. Nothing is kept."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer.config import Settings, load_settings
from fer.errors import FerError, PictureError
from fer.registry import Registry

if TYPE_CHECKING:
    from fer.vision.recogniser import Reading, Recogniser, Recognition

#: What is taken from a folder; a file that is named outright is always tried.
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp"),
        *("tif", "tiff", "avif", "heic", "heif"),
    )
)

_CSV_COLUMNS = (
    "file", "face", "label", "certain", "confidence", "left", "top", "width", "height", "roll",
    "face_px", "sharpness", "detector_score", "model", "error",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add `fer predict` to the command."""
    app.command()(predict)


def predict(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write a table, a row for each face.")
    ] = None,
    annotated: Annotated[
        Path | None,
        typer.Option("--annotate", help="Folder for the pictures with boxes and labels drawn."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Version to read with instead of the champion.")
    ] = None,
) -> None:
    """Read the expression on every face of pictures; nothing is kept.

    Prints a line for each face, and one for each file that is refused, saying why.

    The exit code is 1 only where no face was read at all.
    """
    from rich.console import Console
    from rich.progress import track

    from fer.vision.recogniser import Recogniser

    if as_json and csv_file is not None:
        raise typer.BadParameter("use either --json or --csv", param_hint="--json / --csv")
    settings = load_settings()
    recogniser = Recogniser(Registry(settings.models_dir), settings)
    # A model that cannot serve is said at once and once, not once for each picture.
    version = recogniser.classifier(model).version
    files = list(_files(paths))
    progress = Console(stderr=True)
    outcomes = []
    try:
        for source in track(
            files, "Reading", console=progress, disable=not progress.is_terminal, transient=True
        ):
            outcome = _read(source, recogniser, settings, model)
            outcomes.append(outcome)
            if not as_json:
                for line in _lines(outcome, settings.abstain):
                    typer.echo(line)
            if annotated is not None and outcome.recognition is not None:
                _draw(outcome.recognition, annotated / source.name, settings.abstain)
            # Only what is told stays in memory, not the pictures of a whole folder.
            outcome.recognition = None
    finally:
        recogniser.close()
    if as_json:
        pictures = [outcome.as_dict(settings.abstain) for outcome in outcomes]
        typer.echo(json.dumps({"model": version, "pictures": pictures}, ensure_ascii=False))
    if csv_file is not None:
        _write_csv(csv_file, outcomes, version, settings.abstain)
    if not any(outcome.readings for outcome in outcomes):
        if not outcomes:
            typer.echo("fer: there are no pictures there.", err=True)
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Source:
    """A file to read, and its name below the folder that was asked for."""

    path: Path
    name: Path


@dataclass
class _Outcome:
    """What came of one file: readings, or the error that refused it."""

    path: Path
    readings: tuple[Reading, ...] = ()
    error: FerError | None = None
    recognition: Recognition | None = None

    def as_dict(self, threshold: float) -> dict[str, Any]:
        error = self.error and {"code": self.error.code, "message": self.error.message}
        faces = [reading.as_dict(threshold) for reading in self.readings]
        return {"file": str(self.path), "faces": faces, "error": error}


def _files(paths: list[Path]) -> Iterator[_Source]:
    for path in paths:
        if not path.is_dir():
            yield _Source(path, Path(path.name))
            continue
        for found in sorted(path.rglob("*")):
            if found.suffix.lower() in SUFFIXES and found.is_file():
                yield _Source(found, found.relative_to(path))


def _read(
    source: _Source, recogniser: Recogniser, settings: Settings, model: str | None
) -> _Outcome:
    from fer.vision.images import ImageLimits

    # One byte more than is allowed is enough to be refused for it.
    most = ImageLimits.from_settings(settings).max_bytes + 1
    try:
        with source.path.open("rb") as stream:
            data = stream.read(most)
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        return _Outcome(source.path, error=FerError(f"The file cannot be read: {reason}."))
    try:
        recognition = recogniser.recognise(data, model)
    except PictureError as error:
        return _Outcome(source.path, error=error)
    return _Outcome(source.path, recognition.readings, recognition=recognition)


def _lines(outcome: _Outcome, threshold: float) -> Iterator[str]:
    if outcome.error is not None:
        yield f"{outcome.path}: refused: {outcome.error.message}"
    for number, reading in enumerate(outcome.readings, start=1):
        face = f" face {number}" if len(outcome.readings) > 1 else ""
        box = reading.box
        place = f"{box.width:.0f}x{box.height:.0f} at {box.left:.0f},{box.top:.0f}"
        yield f"{outcome.path}:{face} {_told(reading, threshold)} ({place})"


def _told(reading: Reading, threshold: float) -> str:
    best = [f"{label} {share:.0%}" for label, share in reading.prediction.ranked()]
    if reading.prediction.certain(threshold):
        return best[0]
    return f"not sure, {' or '.join(best[:2])}"


def _draw(recognition: Recognition, target: Path, threshold: float) -> None:
    from fer.vision.annotate import annotate
    from fer.vision.images import encode_jpeg

    texts = [_told(reading, threshold) for reading in recognition.readings]
    picture = encode_jpeg(annotate(recognition.image, recognition.readings, texts))
    target.parent.mkdir(parents=True, exist_ok=True)
    # smile.png and smile.jpg must not overwrite each other, nor anything that was there before.
    place, number = target.with_suffix(".jpg"), 1
    while place.exists():
        number += 1
        place = target.with_name(f"{target.stem}-{number}.jpg")
    place.write_bytes(picture)


def _write_csv(target: Path, outcomes: list[_Outcome], version: str, threshold: float) -> None:
    labels = {label: None for o in outcomes for r in o.readings for label in r.prediction.labels}
    with target.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, [*_CSV_COLUMNS, *(f"p({label})" for label in labels)])
        table.writeheader()
        for outcome in outcomes:
            if outcome.error is not None:
                table.writerow({"file": outcome.path, "error": outcome.error.message})
            for number, reading in enumerate(outcome.readings, start=1):
                told = reading.as_dict(threshold)
                place = dict(zip(("left", "top", "width", "height"), told["box"], strict=True))
                shares = told["probabilities"].items()
                table.writerow(
                    {"file": outcome.path, "face": number, "model": version, **place}
                    | {key: told[key] for key in ("label", "certain", "confidence", "roll")}
                    | told["quality"]
                    | {f"p({label})": share for label, share in shares}
                )
