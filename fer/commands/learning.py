"""`fer train` and `fer evaluate`."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from fer.commands._training import progress_bar, quiet_tensorflow, with_knobs
from fer.config import load_settings
from fer.errors import DataError, ModelError, NoModelError, TrainingError
from fer.labels import LabelSet
from fer.learning.recipe import Recipe, checked, read_recipe
from fer.registry import INT8_FILE, LITERT_FILE, Registry


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
    share: Annotated[
        float, typer.Option(help="Part of each label's pictures to take, for a quick trial.")
    ] = 1.0,
    terms: Annotated[str, typer.Option(help="Terms of use of the data, for the card.")] = "",
    tune: Annotated[
        int,
        typer.Option(
            help="Try so many settings of learning rate, dropout, frozen layers and augmentation "
            "first, and train with the best; 0: none."
        ),
    ] = 0,
    tune_epochs: Annotated[
        int, typer.Option(help="Epochs of fine-tuning in each of those; 0: as in the training.")
    ] = 0,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="Version whose answers make part of the targets; may be repeated."),
    ] = None,
    teacher_votes: Annotated[
        Path | None,
        typer.Option(help="FER+ votes (CSV) that the teacher sees, and the network does not."),
    ] = None,
    notes: Annotated[str, typer.Option(help="Anything else that the card should say.")] = "",
    config: Annotated[
        Path | None, typer.Option(help="TOML file of knobs; options given here win over it.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Run folder or checkpoint of a stopped training to go on with."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    promote: Annotated[
        bool, typer.Option("--promote", help="Make the new version the champion.")
    ] = False,
    change_labels: Annotated[
        bool,
        typer.Option("--change-labels", help="With --promote: allow other labels than before."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    **given: Any,
) -> None:
    """Train a model on pictures of your own, and write it into the models folder."""
    registry = Registry(load_settings().models_dir)
    console = Console(stderr=True)
    values = read_recipe(config) if config else {}
    values |= checked({k: v for k, v in given.items() if v is not None}, "the command line")
    if resume is None and data is None:
        raise DataError("Say which data to train on, or which training to resume with --resume.")
    recipe = Recipe(**values)
    quiet_tensorflow()
    from fer.learning.runfolder import (
        Request,
        default_name,
        labels_of,
        read_run,
        resumable,
        start_run,
        version_name,
    )
    from fer.learning.runs import run_training

    if resume is not None:
        if values:
            raise TrainingError("A resumed training keeps its recipe: leave the knobs out.")
        folder = resumable(resume, runs)
        request, _ = read_run(folder)
    else:
        request = Request(
            data=str(data),
            name=version_name(name or default_name(recipe.architecture, str(data))),
            title=title,
            votes=str(votes) if votes else None,
            classes=classes,
            weights=None if weights == "none" else weights,
            start=str(start) if start else None,
            validation_share=validation_share,
            test_share=test_share,
            terms=terms,
            notes=notes,
            share=share,
            teachers=tuple(teacher or ()),
            teacher_votes=str(teacher_votes) if teacher_votes else None,
            tune=tune,
            tune_epochs=tune_epochs,
        )
    if promote and not change_labels:
        # Before hours of training, not after them.
        _refuse_other_labels(registry, labels_of(request))
    if resume is None:
        folder = start_run(request, recipe, runs)
    console.print(f"Run folder: {folder}", highlight=False)
    with progress_bar(console) as bar:
        task = bar.add_task("reading pictures", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=done < total)

        def say(line: str) -> None:
            console.print(line, highlight=False, soft_wrap=True)

        # Keras prints its progress bars, and the converter its chatter, to standard output,
        # which belongs to the answer.
        with contextlib.redirect_stdout(sys.stderr):
            manifest = run_training(folder, registry, say, progress)
    if promote:
        registry.promote(manifest.version, change_labels=change_labels)
    if as_json:
        print(json.dumps({"version": manifest.version, "run": str(folder)} | manifest.metrics))
    else:
        figures = ("accuracy", "ferplus_accuracy", "balanced_accuracy", "ece")
        shown = [f"{f} {manifest.metrics[f]:.3f}" for f in figures if f in manifest.metrics]
        print(f"{manifest.version}: {', '.join(shown)} on validation")


def _refuse_other_labels(registry: Registry, labels: LabelSet) -> None:
    """Raise ModelError where the champion has other labels than the version to be trained."""
    try:
        champion = registry.manifest(registry.champion()).label_set
    except NoModelError:
        return
    if not champion.same_as(labels):
        raise ModelError(
            f"The data has other labels ({', '.join(labels)}) than the champion "
            f"({', '.join(champion)}); say --change-labels if that is meant."
        )


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
    groups: Annotated[
        Path | None,
        typer.Option(help="CSV with a column file and others, to give figures for each group."),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Measure the smaller file instead, if there is one.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for a report with plots and contact sheets; it shows faces."),
    ] = None,
    language: Annotated[
        str | None, typer.Option("--lang", help="Language of the report: en or id; the shell's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure a version on labelled pictures, by the file that serves."""
    if faces not in ("cropped", "detect"):
        raise DataError(f"--faces is cropped or detect, not {faces!r}.")
    from fer.learning.assessment import assess
    from fer.learning.datasets import read_votes
    from fer.learning.report_texts import ReportTexts
    from fer.learning.slices import read_groups

    texts = ReportTexts(language)
    named = read_groups(groups) if groups else None
    registry = Registry(load_settings().models_dir)
    version = model or registry.champion()
    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("reading pictures", total=None)
        result = assess(
            registry,
            version,
            data,
            split=split,
            votes=read_votes(votes) if votes else None,
            detect=faces == "detect",
            classes=classes,
            groups=named,
            litert=INT8_FILE if int8 else LITERT_FILE,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if out is not None:
        from fer.learning.evaluation_report import write_evaluation

        labels = registry.manifest(version).label_set
        write_evaluation(result, labels, out, texts, model=version, data=data.name)
    for name, reason in result.faces.unreadable:
        print(f"left out {name}: {reason}", file=sys.stderr)
    if as_json:
        print(json.dumps({"model": version} | result.figures))
        return
    figures = result.figures
    print(f"{version} on {figures['n']} pictures of {data}")
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "ferplus_accuracy", "ece"):
        if name in figures:
            low, high = figures[f"{name}_interval"]
            print(f"  {name:18} {figures[name]:.4f}  ({low:.4f} to {high:.4f})")
    print(f"  {'faces_missed':18} {figures['faces_missed']}")
    for label, row in figures["per_class"].items():
        print(
            f"  {label:18} precision {row['precision']:.2f}  recall {row['recall']:.2f}  "
            f"f1 {row['f1']:.2f}  n {row['n']}"
        )
    parts = dict(figures["slices"])
    parts |= figures.get("groups", {}).get("columns", {})
    for name, rows in parts.items():
        print(f"  by {name}")
        for row in rows:
            low, high = row["accuracy_interval"]
            part = row.get("slice") or row.get("group")
            print(
                f"    {part:16} accuracy {row['accuracy']:.3f} ({low:.3f} to {high:.3f})"
                f"  n {row['n']}"
            )
    if out is not None:
        print(f"Report: {out / 'report.html'}")


def register(app: typer.Typer) -> None:
    """Add the commands to `fer`."""
    app.command()(with_knobs(train))
    app.command()(evaluate)
