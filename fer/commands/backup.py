"""`fer backup` and `fer restore`: the whole collection and the models in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fer.config import load_settings
from fer.errors import BackupError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def backup(
    out: Annotated[Path, typer.Argument(help="The file to write; an older one is replaced.")],
    as_json: Json = False,
) -> None:
    """Write database, pictures, models and the champion pointer to one file.

    The server may run meanwhile. The file holds faces: keep it where only you can read it, and
    no longer than faces may be kept.
    """
    from dataclasses import asdict

    from fer.collection.backup import backup as write
    from fer.collection.opening import open_store
    from fer.registry import Registry

    settings = load_settings()
    report = write(open_store(settings), Registry(settings.models_dir), out)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "file": str(out)}))
    else:
        typer.echo(
            f"{out}: {report.pictures} pictures, {len(report.models)} models, "
            f"{report.bytes / 1e6:.1f} MB."
        )
    if report.missing:
        if not as_json:
            typer.echo(
                f"{len(report.missing)} pictures were lost before: see `fer samples verify`."
            )
        raise typer.Exit(1)


def restore(
    source: Annotated[Path, typer.Argument(metavar="IN", help="What `fer backup` wrote.")],
    deletions: Annotated[
        Path | None,
        typer.Option(help="A newer list of deletions, as `fer samples deletions` writes it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a backup back, into an empty data folder and database; the forgotten stay forgotten."""
    from dataclasses import asdict

    from fer.collection.deletion import deletions_from_json
    from fer.collection.restoring import restore as put_back

    later = None
    if deletions is not None:
        try:
            later = deletions_from_json(deletions.read_bytes())
        except OSError as error:
            raise BackupError(f"{deletions} cannot be read: {error.strerror or error}.") from error
    report = put_back(source, load_settings(), later)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "clean": report.verified.clean}))
    else:
        typer.echo(
            f"{report.pictures} pictures and {len(report.models)} models are back; "
            f"{report.forgotten} faces that were forgotten since stay forgotten, "
            f"{report.expired} have expired."
        )
        if later is None:
            typer.echo("Whoever was forgotten after the backup is known only by --deletions.")
    if not report.verified.clean:
        if not as_json:
            typer.echo("Not every picture is as its row says: see `fer samples verify`.")
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add both commands to `fer` itself."""
    app.command()(backup)
    app.command()(restore)
