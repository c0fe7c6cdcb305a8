"""`fer train` and `fer evaluate`."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fer.config import Settings
from fer.errors import DataError, TrainingError
from fer.learning.recipe import Recipe, checked, knobs, read_recipe
from fer.registry import Registry


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def train(
    data: Annotated[
        Path | None,
        typer.Argument(help="Folder or zip with one folder of pictures for each label."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the version; it ends with this.")] = "",
    title: Annotated[str, typer.Option(help="What people read in the model picker.")] = "",
    weights: Annotated[
        str, typer.Option(help="Backbone to start from: imagenet, a weights file, or none.")
    ] = "imagenet",
    start: Annotated[
        Path | None,
        typer.Option(help="Weights of a whole network of this kind to start from instead."),
    ] = None,
    votes: Annotated[Path | None, typer.Option(help="FER+ votes for the data, a CSV.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Labels to take, by comma: happy,sad; merged: happy=joy+happy,sad."),
    ] = None,
    validation_share: Annotated[
        float, typer.Option(help="Part of training kept for validation where there is none.")
    ] = 0.2,
    test_share: Annotated[
        float, typer.Option(help="Part of validation kept for the test where there is none.")
    ] = 0.4,
    terms: Annotated[str, typer.Option(help="Terms of use of the data, for the card.")] = "",
    notes: Annotated[str, typer.Option(help="Anything else that the card should say.")] = "",
    config: Annotated[
        Path | None, typer.Option(help="TOML file of knobs; options given here win over it.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Run folder of a stopped training to go on with.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    promote: Annotated[
        bool, typer.Option("--promote", help="Make the new version the champion.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    **given: Any,
) -> None:
    """Train a model on pictures of your own, and write it into the models folder."""
    settings = Settings()
    registry = Registry(settings.models_dir)
    console = Console(stderr=True)
    values = read_recipe(config) if config else {}
    values |= checked({k: v for k, v in given.items() if v is not None}, "the command line")
    if resume is None and data is None:
        raise DataError("Say which data to train on, or which training to resume with --resume.")
    recipe = Recipe(**values)
    if not os.environ.get("TF_CPP_MIN_LOG_LEVEL"):
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    from fer.learning.runs import Request, run_training, start_run

    if resume is not None:
        if values:
            raise TrainingError("A resumed training keeps its recipe: leave the knobs out.")
        folder = resume
    else:
        default = f"{recipe.architecture.replace('_', '')}-{Path(str(data)).stem.lower()}"
        request = Request(
            data=str(data),
            name=re.sub(r"[^a-z0-9._-]+", "-", (name or default).lower()).strip("-._"),
            title=title,
            votes=str(votes) if votes else None,
            classes=classes,
            weights=None if weights == "none" else weights,
            start=str(start) if start else None,
            validation_share=validation_share,
            test_share=test_share,
            terms=terms,
            notes=notes,
        )
        folder = start_run(request, recipe, runs)
    console.print(f"Run folder: {folder}", highlight=False)
    with _bar(console) as bar:
        task = bar.add_task("reading pictures", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=done < total)

        def say(line: str) -> None:
            console.print(line, highlight=False)

        # Keras prints its progress bars, and the converter its chatter, to standard output,
        # which belongs to the answer.
        with contextlib.redirect_stdout(sys.stderr):
            manifest = run_training(folder, registry, say, progress)
    if promote:
        registry.promote(manifest.version)
    if as_json:
        print(json.dumps({"version": manifest.version, "run": str(folder)} | manifest.metrics))
    else:
        figures = ("accuracy", "ferplus_accuracy", "balanced_accuracy", "ece")
        shown = [f"{f} {manifest.metrics[f]:.3f}" for f in figures if f in manifest.metrics]
        print(f"{manifest.version}: {', '.join(shown)} on validation")


def _with_knobs(command: Any) -> Any:
    """Give a command one option for each knob of the recipe, in the place of `**given`.

    The default shown is the recipe's, the one passed is None: only so can a config file be told
    from an option.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    for name, type_, default, meaning in knobs():
        flags = [f"--{name.replace('_', '-')}"]
        if name == "architecture":
            flags.insert(0, "--arch")
        option = typer.Option(*flags, help=f"{meaning} \\[default: {default}]", show_default=False)
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[type_ | None, option],
            )
        )
    command.__signature__ = signature.replace(parameters=parameters)
    command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return command


def evaluate(
    data: Annotated[Path, typer.Argument(help="Folder or zip of labelled pictures.")],
    model: Annotated[
        str | None, typer.Option(help="Version to evaluate; the champion if not given.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only this split of the data.")] = None,
    votes: Annotated[Path | None, typer.Option(help="FER+ votes for the data, a CSV.")] = None,
    faces: Annotated[
        str,
        typer.Option(help="cropped: each picture is a face; detect: find the face in it first."),
    ] = "cropped",
    classes: Annotated[str | None, typer.Option(help="Labels to take from the data.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure a version on labelled pictures, by the file that serves."""
    if faces not in ("cropped", "detect"):
        raise DataError(f"--faces is cropped or detect, not {faces!r}.")
    from fer.learning.assessment import assess
    from fer.learning.datasets import read_votes

    registry = Registry(Settings().models_dir)
    version = model or registry.champion()
    with _bar(Console(stderr=True)) as bar:
        task = bar.add_task("reading pictures", total=None)
        result = assess(
            registry,
            version,
            data,
            split=split,
            votes=read_votes(votes) if votes else None,
            detect=faces == "detect",
            classes=classes,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for name, reason in result.faces.unreadable:
        print(f"left out {name}: {reason}", file=sys.stderr)
    if as_json:
        print(json.dumps({"model": version} | result.figures))
        return
    figures = result.figures
    print(f"{version} on {figures['n']} pictures of {data}")
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "ferplus_accuracy", "ece"):
        if name in figures:
            print(f"  {name:18} {figures[name]:.4f}")
    print(f"  {'faces_missed':18} {figures['faces_missed']}")
    for label, row in figures["per_class"].items():
        print(
            f"  {label:18} precision {row['precision']:.2f}  recall {row['recall']:.2f}  "
            f"f1 {row['f1']:.2f}  n {row['n']}"
        )


def register(app: typer.Typer) -> None:
    """Add the commands to `fer`."""
    app.command()(_with_knobs(train))
    app.command()(evaluate)
