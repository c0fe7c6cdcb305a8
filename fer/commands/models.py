"""`fer models`: the versions in the models folder, and which one serves."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer.config import load_settings
from fer.errors import ManifestError, NoModelError
from fer.registry import Registry

if TYPE_CHECKING:
    from fer.manifest import Manifest

app = typer.Typer(no_args_is_help=True, help="List, compare, promote and remove model versions.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Version = Annotated[str, typer.Argument(help="A version, as `fer models list` names it.")]
TrainedOn = Annotated[Path, typer.Argument(help="What the version was trained on.")]
Votes = Annotated[Path | None, typer.Option(help="FER+ votes, where it was trained towards them.")]


def _registry() -> Registry:
    return Registry(load_settings().models_dir)


def _champion(registry: Registry) -> str | None:
    try:
        return registry.champion()
    except NoModelError:
        return None


def _entry(registry: Registry, version: str) -> dict[str, Any]:
    """One version for the list; one whose manifest cannot be read says so in `problem`."""
    entry: dict[str, Any] = {
        "version": version,
        "title": "",
        "parent": None,
        "created_at": None,
        "architecture": None,
        "labels": [],
        "metrics": {},
        "samples_used": 0,
        "champion": version == _champion(registry),
        "default": version == registry.default(),
        "problem": None,
    }
    try:
        manifest = registry.manifest(version)
    except ManifestError as error:
        entry["problem"] = error.message
        return entry
    entry |= {
        "title": manifest.title or manifest.name,
        "parent": manifest.parent,
        "created_at": manifest.created_at.isoformat(),
        "architecture": manifest.architecture,
        "labels": list(manifest.labels),
        "metrics": manifest.metrics,
        "samples_used": len(manifest.samples_used),
    }
    return entry


def _figures(metrics: dict[str, Any]) -> str:
    """The plain numbers among `metrics`, in a line."""
    return ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )


@app.command("list")
def list_versions(as_json: Json = False) -> None:
    """List the versions, oldest first; the champion is the one that serves."""
    registry = _registry()
    entries = [_entry(registry, version) for version in registry.versions()]
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
        return
    if not entries:
        typer.echo(f"There is no model version in {registry.folder}.")
    for entry in entries:
        marks = [name for name in ("champion", "default") if entry[name]]
        typer.echo(entry["version"] + (f"  [{', '.join(marks)}]" if marks else ""))
        if entry["problem"]:
            typer.echo(f"    {entry['problem']}")
            continue
        typer.echo(f"    {entry['architecture']}: {', '.join(entry['labels'])}")
        if figures := _figures(entry["metrics"]):
            typer.echo(f"    {figures}")


def _print_manifest(manifest: Manifest) -> None:
    typer.echo(f"{manifest.version}  {manifest.title or manifest.name}")
    made = manifest.created_at.strftime("%Y-%m-%d %H:%M %Z").strip()
    lines = {
        "Made": made,
        "Parent": manifest.parent or "none",
        "Architecture": manifest.architecture,
        "Parameters": f"{manifest.parameters:,}" if manifest.parameters else "",
        "Labels": ", ".join(manifest.labels),
        "Takes": f"{manifest.crop_size} px crops, read at {manifest.image_size} px",
        "Figures": _figures(manifest.metrics),
        "Data": "; ".join(f"{d.name} ({d.terms})" if d.terms else d.name for d in manifest.data),
        "Samples used": str(len(manifest.samples_used)),
        "Not for": manifest.not_for,
        "Files": ", ".join(sorted(manifest.files)),
    }
    for name, value in lines.items():
        if value:
            typer.echo(f"  {name + ':':<14}{value}")


@app.command()
def show(version: Version, as_json: Json = False) -> None:
    """Show what a version says of itself, all of its manifest with --json."""
    registry = _registry()
    manifest = registry.manifest(version)
    if as_json:
        document = manifest.model_dump(mode="json")
        document["champion"] = version == _champion(registry)
        document["default"] = version == registry.default()
        typer.echo(json.dumps(document, indent=2))
        return
    _print_manifest(manifest)


@app.command()
def promote(
    version: Version,
    change_labels: Annotated[
        bool, typer.Option("--change-labels", help="Allow other labels than the champion's.")
    ] = False,
) -> None:
    """Make a version the champion; a running page changes over without a restart."""
    registry = _registry()
    registry.promote(version, change_labels=change_labels)
    typer.echo(f"{version} is the champion now.")


@app.command()
def rollback() -> None:
    """Make the champion before this one the champion again."""
    typer.echo(f"{_registry().rollback()} is the champion again.")


@app.command()
def replay(
    version: Version,
    data: TrainedOn,
    votes: Votes = None,
    classes: Annotated[
        str | None, typer.Option(help="As given to fer train, where it was.")
    ] = None,
    validation_share: Annotated[float, typer.Option(help="As given to fer train.")] = 0.2,
    test_share: Annotated[float, typer.Option(help="As given to fer train.")] = 0.4,
) -> None:
    """Make a version's replay.npz again, where the freeze point has changed since."""
    from fer.commands._training import quiet_tensorflow

    quiet_tensorflow()
    from fer.learning.renewal import renew_replay
    from fer.learning.runfolder import Request

    request = Request(
        data=str(data),
        name=version,
        votes=str(votes) if votes is not None else None,
        classes=classes,
        validation_share=validation_share,
        test_share=test_share,
    )
    manifest = renew_replay(_registry(), version, request, typer.echo)
    typer.echo(f"{version} replays activations of {manifest.freeze_point}.")


@app.command()
def card(
    version: Version,
    data: TrainedOn,
    votes: Votes = None,
    elsewhere: Annotated[
        list[Path] | None,
        typer.Option(help="Other labelled pictures to measure end to end; repeat it."),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Make the int8 file again, from the training split.")
    ] = False,
) -> None:
    """Measure a version again, and write its card."""
    from fer.commands._training import quiet_tensorflow

    quiet_tensorflow()
    from fer.learning.carding import renew_card

    with contextlib.redirect_stdout(sys.stderr):
        manifest = renew_card(
            _registry(),
            version,
            data,
            votes,
            elsewhere=elsewhere or (),
            int8=int8,
            say=lambda line: typer.echo(line, err=True),
        )
    typer.echo(f"{version}: {_figures(manifest.metrics)}")


@app.command()
def remove(version: Version) -> None:
    """Delete a version that is not in service."""
    _registry().remove(version)
    typer.echo(f"{version} is removed.")
