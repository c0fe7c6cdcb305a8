"""`fer compare`, `fer explore`, `fer runs` and `fer checkpoint`."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fer.commands._training import progress_bar, quiet_tensorflow, with_knobs
from fer.config import load_settings
from fer.errors import DataError
from fer.learning.recipe import ARCHITECTURES, Recipe, checked, read_recipe
from fer.registry import Registry

if TYPE_CHECKING:
    from fer.learning.runfolder import Request

Data = Annotated[
    Path, typer.Argument(help="Folder or zip with one folder of pictures for each label.")
]
Votes = Annotated[Path | None, typer.Option(help="FER+ votes for the data, a CSV.")]
Classes = Annotated[str | None, typer.Option(help="Labels to take, as for `fer train`.")]
Name = Annotated[str, typer.Option(help="Folder of the report; from the data if not given.")]
Reports = Annotated[Path, typer.Option(help="Where reports are kept.")]
Language = Annotated[
    str | None, typer.Option("--lang", help="Language of the report: en or id; the shell's.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def compare(
    data: Data,
    arch: Annotated[
        list[str] | None, typer.Option("--arch", help="Network to train and compare; repeat it.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Trained version to compare; repeat it."),
    ] = None,
    name: Name = "",
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="Backbone to start from: imagenet, none or a file, or for one network ARCH=FILE. "
            "\\[default: imagenet]",
            show_default=False,
        ),
    ] = None,
    votes: Votes = None,
    classes: Classes = None,
    share: Annotated[
        float, typer.Option(help="Part of each label's pictures to take, for a quick trial.")
    ] = 1.0,
    validation_share: Annotated[
        float, typer.Option(help="Part of training kept for validation where there is none.")
    ] = 0.2,
    test_share: Annotated[
        float, typer.Option(help="Part of validation kept for the test where there is none.")
    ] = 0.4,
    terms: Annotated[str, typer.Option(help="Terms of use of the data, for the cards.")] = "",
    config: Annotated[
        Path | None, typer.Option(help="TOML file of knobs; options given here win over it.")
    ] = None,
    language: Language = None,
    reports: Reports = Path("reports"),
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    as_json: Json = False,
    **given: Any,
) -> None:
    """Train networks, or take trained versions, and compare them on the same pictures.

    The knobs of `fer train` are those of every network that is trained.
    """
    from fer.learning.report_texts import ReportTexts
    from fer.learning.runfolder import Request

    if not arch and not model:
        raise DataError("Say what to compare: networks with --arch, or versions with --model.")
    texts = ReportTexts(language)
    values = read_recipe(config) if config else {}
    values |= checked({k: v for k, v in given.items() if v is not None}, "the command line")
    values.pop("architecture", None)
    recipe = Recipe(**values)
    folder = reports / _folder_name(name, "compare", data)
    request = Request(
        data=str(data),
        name="comparison",
        votes=str(votes) if votes else None,
        classes=classes,
        validation_share=validation_share,
        test_share=test_share,
        share=share,
        terms=terms,
    )
    orders = [
        (replace(recipe, architecture=each), _weights_of(each, weights or []))
        for each in dict.fromkeys(arch or [])
    ]
    registry = Registry(load_settings().models_dir)
    for version in model or []:
        registry.manifest(version)
    quiet_tensorflow()
    console = Console(stderr=True)
    trained = [
        _train(replace(request, weights=start), each, registry, runs, console)
        for each, start in orders
    ]
    from fer.learning.comparison import compare as compare_versions
    from fer.learning.comparison_report import write_comparison
    from fer.learning.datasets import read_votes

    with _counting(console, "comparing") as progress:
        dataset, pictures, split = _pictures(request, recipe)
        comparison = compare_versions(
            registry,
            [*trained, *(v for v in model or [] if v not in trained)],
            dataset,
            pictures,
            split,
            votes=read_votes(votes) if votes else None,
            progress=progress,
        )
    write_comparison(comparison, folder, texts, trained)
    if as_json:
        print(json.dumps(comparison.as_dict() | {"report": str(folder)}, ensure_ascii=False))
        return
    for contestant in comparison.contestants:
        low, high = contestant.figures["accuracy_interval"]
        print(
            f"{contestant.version}: accuracy {contestant.figures['accuracy']:.3f} "
            f"({low:.3f} to {high:.3f}), macro F1 {contestant.figures['macro_f1']:.3f}, "
            f"{contestant.milliseconds:.1f} ms a face"
        )
    print(f"Report: {folder / 'report.html'}")


def _train(
    request: Request, recipe: Recipe, registry: Registry, runs: Path, console: Console
) -> str:
    """Train one network of a comparison; its version."""
    from fer.learning.runfolder import default_name, start_run, version_name
    from fer.learning.runs import run_training

    name = version_name(default_name(recipe.architecture, request.data))
    run = start_run(replace(request, name=name), recipe, runs)
    console.print(f"Run folder: {run}", highlight=False)
    with _counting(console, "reading pictures") as progress, contextlib.redirect_stdout(sys.stderr):
        manifest = run_training(
            run,
            registry,
            lambda line: console.print(line, highlight=False, soft_wrap=True),
            progress,
        )
    return manifest.version


def _pictures(request: Request, recipe: Recipe) -> tuple[Any, Any, str]:
    """The data set, the pictures to compare on and the name of their split.

    They are the test split that trainings on `request` leave alone, or, where there is none,
    their validation split.
    """
    from fer.learning.layouts import TEST, VALIDATION
    from fer.learning.runs import load_splits

    # Small crops: only which pictures can be read is wanted, since that decides the splits.
    small = replace(recipe, crop_size=8, grey="yes")
    splits, _ = load_splits(replace(request, votes=None), small, lambda line: None)
    split = TEST if TEST in splits.dataset.splits() else VALIDATION
    return splits.dataset, splits.dataset.split(split), split


def _weights_of(architecture: str, given: list[str]) -> str | None:
    """What `architecture` starts from: its own ARCH=… if there is one, else the general one."""
    chosen = "imagenet"
    own = None
    for item in given:
        head, _, tail = item.partition("=")
        if tail and head in ARCHITECTURES:
            own = tail if head == architecture else own
        else:
            chosen = item
    chosen = own or chosen
    return None if chosen == "none" else chosen


def explore(
    data: Data,
    name: Name = "",
    votes: Votes = None,
    classes: Classes = None,
    near_bits: Annotated[
        int, typer.Option(min=0, max=32, help="Bits of 64 in which near duplicates may differ.")
    ] = 6,
    near_correlation: Annotated[
        float, typer.Option(min=0, max=1, help="How far their thumbnails must correlate.")
    ] = 0.95,
    language: Language = None,
    reports: Reports = Path("reports"),
    as_json: Json = False,
) -> None:
    """Look at a data set: counts, sizes, brightness, mean faces, copies, leaks, votes."""
    from fer.learning.datasets import open_dataset, read_votes
    from fer.learning.exploration import Nearness
    from fer.learning.exploration import explore as look_at
    from fer.learning.exploration_report import summary, write_exploration
    from fer.learning.report_texts import ReportTexts

    texts = ReportTexts(language)
    dataset = open_dataset(data, classes)
    nearness = Nearness(near_bits, near_correlation)
    with _counting(Console(stderr=True), "reading pictures") as progress:
        found = look_at(dataset, read_votes(votes) if votes else None, nearness, progress)
    folder = reports / _folder_name(name, "explore", data)
    write_exploration(found, folder, texts)
    if as_json:
        print(json.dumps(found.as_dict() | {"report": str(folder)}, ensure_ascii=False))
        return
    print("\n".join(summary(found, texts)))
    print(f"Report: {folder / 'report.html'}")


def runs(
    folder: Annotated[Path, typer.Option("--runs", help="Where run folders are kept.")] = Path(
        "runs"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the trainings of `fer train` and `fer compare`, oldest first."""
    from fer.learning.runfolder import list_runs

    found = list_runs(folder)
    if as_json:
        print(json.dumps([asdict(run) for run in found], indent=2))
        return
    if not found:
        print(f"There is no run in {folder}.")
    for run in found:
        print(f"{run.name}  [{run.state}]")
        accuracy = "" if run.accuracy is None else f", accuracy {run.accuracy:.3f} on validation"
        minutes = f"{run.epochs} epochs in {run.seconds / 60:.1f} min"
        print(f"    {run.architecture} on {run.data}: {minutes}{accuracy}")
        if run.version:
            print(f"    {run.version}")


def checkpoint(
    run: Annotated[Path, typer.Argument(help="Run folder of a stopped training.")],
    target: Annotated[Path, typer.Argument(help="Folder to make.")],
) -> None:
    """Keep what a stopped training needs to go on elsewhere: settings and one copy of weights."""
    from fer.learning.runfolder import keep_checkpoint

    keep_checkpoint(run, target)
    size = sum(path.stat().st_size for path in target.iterdir()) / 1e6
    print(f"{target}: {size:.1f} MB; go on with: fer train --resume {target}")


def _folder_name(name: str, kind: str, data: Path) -> str:
    wanted = name or f"{kind}-{data.resolve().stem}"
    safe = re.sub(r"[^\w.-]+", "-", wanted).strip("-.")
    if not safe:
        raise DataError(f"{wanted!r} cannot name a report: use letters and digits.")
    return safe


@contextlib.contextmanager
def _counting(console: Console, text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar while pictures are counted; gives what to call with (done, in all)."""
    with progress_bar(console) as bar:
        task = bar.add_task(text, total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=done < total)

        yield progress


def register(app: typer.Typer) -> None:
    """Add the commands to `fer`."""
    app.command()(with_knobs(compare, without={"architecture"}))
    app.command()(explore)
    app.command()(runs)
    app.command()(checkpoint)
