"""`fer samples`: what is kept, in a terminal."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fer.config import load_settings

if TYPE_CHECKING:
    from fer.collection.samples import SampleStore
    from fer.collection.statistics import Proportion

app = typer.Typer(no_args_is_help=True, help="List, check, export and import kept samples.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("list")
def list_(
    status: Annotated[str | None, typer.Option(help="pending, confirmed, rejected, …")] = None,
    label: Annotated[str | None, typer.Option(help="Final label, or else the predicted.")] = None,
    model: Annotated[str | None, typer.Option(help="Model version.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Kept on this day (UTC) or later.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Kept before this day (UTC).")] = None,
    disagreed: Annotated[
        bool | None, typer.Option("--disagreed/--agreed", help="What the visitor said.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Most to show.")] = 60,
    after: Annotated[str | None, typer.Option(help="Go on after this id.")] = None,
    as_json: Json = False,
) -> None:
    """List samples, newest first; copies within a group are folded.

    Samples of the audit slice appear once they were decided.
    """
    from datetime import UTC

    from fer.collection.grid import GridFilter, grid_page

    chosen = GridFilter(
        status=status,
        label=label,
        model=model,
        since=since.replace(tzinfo=UTC) if since else None,
        until=until.replace(tzinfo=UTC) if until else None,
        disagreed=disagreed,
    )
    page = grid_page(_store().database, chosen, after, limit)
    if as_json:
        cells = [
            {**cell.sample.to_json(), "copies": [copy.id for copy in cell.copies]}
            for cell in page.cells
        ]
        typer.echo(json.dumps({"samples": cells, "after": page.after}))
        return
    for cell in page.cells:
        sample = cell.sample
        extra = f"  and {len(cell.copies) - 1} more like it" if len(cell.copies) > 1 else ""
        typer.echo(
            f"{sample.id}  {sample.created_at:%Y-%m-%d %H:%M}  {sample.status:10}  "
            f"{sample.predicted_label} {sample.confidence or 0:.2f} → "
            f"{sample.final_label or '?'}{extra}"
        )
    if not page.cells:
        typer.echo("No samples.")
    elif page.after:
        typer.echo(f"More: --after {page.after}")


@app.command()
def show(
    sample_id: Annotated[str, typer.Argument(metavar="ID", help="A sample id.")],
    as_json: Json = False,
) -> None:
    """Show everything about one sample, its history included."""
    store = _store()
    sample = store.get(sample_id)
    events = [event.to_json() for event in store.events(sample_id)]
    if as_json:
        typer.echo(json.dumps({**sample.to_json(), "events": events}))
        return
    for name, value in sample.to_json().items():
        if value is not None:
            typer.echo(f"{name:18}{value}")
    for event in events:
        typer.echo(
            f"{event['at']}  {event['actor']}  {event['kind']}: "
            f"{event['from_label']} → {event['to_label']}"
        )


@app.command()
def stats(
    days: Annotated[int, typer.Option(min=1, max=3650, help="How far back to look.")] = 30,
    as_json: Json = False,
) -> None:
    """Show counts, accuracy in service, agreement and pace, as the board does."""
    from fer.collection.statistics import board

    store = _store()
    shown = board(store.database, store.clock(), days)
    if as_json:
        typer.echo(json.dumps({**shown.to_json(), "bytes": store.size_bytes()}))
        return
    for name, count in shown.status.items():
        typer.echo(f"{name:18}{count}")
    for model, share in shown.accuracy.items():
        typer.echo(f"accuracy {model or 'in service'}: {_interval(share)}")
    if shown.kappa is not None:
        typer.echo(f"agreement: κ = {shown.kappa:.2f} over {shown.pairs} second opinions")
    for operator, count in shown.decisions.items():
        pace = shown.pace.get(operator)
        typer.echo(f"{operator}: {count} decisions" + (f", {pace:.1f} a minute" if pace else ""))
    typer.echo(f"new decisions to learn from: {shown.new_decisions}")
    typer.echo(f"size: {store.size_bytes() / 1e6:.1f} MB")


@app.command()
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    as_json: Json = False,
) -> None:
    """Compare every row with its file; the exit code is 1 when something is left to do."""
    from dataclasses import asdict

    report = _store().verify(repair)
    left = not (report.mendable if repair else report.clean)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "clean": report.clean}))
    else:
        typer.echo(f"{report.checked} pictures are as they were kept.")
        for name, found in asdict(report).items():
            if isinstance(found, list) and found:
                typer.echo(f"{name.replace('_', ' ')}: {len(found)}")
                for entry in found[:20]:
                    typer.echo(f"  {entry}")
        if report.wrong_size:
            typer.echo("The sum of sizes was off.")
        if repair and not report.clean:
            typer.echo("What can be mended was mended." if left else "All was mended.")
        elif left:
            typer.echo("Mend it with `fer samples verify --repair`.")
    if left:
        raise typer.Exit(1)


@app.command()
def purge(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    as_json: Json = False,
) -> None:
    """Delete samples whose retention is over."""
    count = _store().expire(dry_run=dry_run)
    if as_json:
        typer.echo(json.dumps({"expired": count, "dry_run": dry_run}))
    else:
        typer.echo(f"{count} samples {'would be' if dry_run else 'were'} deleted.")


@app.command()
def deletions(
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    as_json: Json = False,
) -> None:
    """Write the list of deleted samples, for `fer restore --deletions`; it holds ids alone.

    Take it away from this machine more often than backups: whoever was forgotten after the last
    backup is named nowhere else.
    """
    from fer.collection.deletion import deleted_samples, deletions_to_json
    from fer.errors import BackupError
    from fer.files import write_atomically

    store = _store()
    deleted = deleted_samples(store.database)
    try:
        write_atomically(out, deletions_to_json(deleted, store.clock()))
    except OSError as error:
        raise BackupError(f"{out} cannot be written: {error.strerror or error}.") from error
    _print(as_json, {"deleted": len(deleted)}, f"{out}: {len(deleted)} deleted samples.")


@app.command()
def score(
    force: Annotated[bool, typer.Option("--force", help="Also within the hour.")] = False,
    as_json: Json = False,
) -> None:
    """Refresh the scores for "rarest class" and "suspected label error", at most hourly."""
    from dataclasses import asdict

    from fer.collection.scoring import refresh_scores

    store = _store()
    report = refresh_scores(store.database, store.clock(), force=force)
    if as_json:
        typer.echo(json.dumps(asdict(report)))
    elif report.skipped:
        typer.echo("The scores are less than an hour old; --force refreshes them all the same.")
    else:
        typer.echo(
            f"{report.rarity_changed} rarity scores changed, "
            f"{report.label_errors} labels are suspected to be wrong."
        )


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="The zip to write.")],
    receipt: Annotated[
        str | None, typer.Option(help="Only what is held under this receipt, for its owner.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write reviewed samples as an ImageFolder zip, or what is held about one visitor."""
    from dataclasses import asdict

    from fer.collection.export import export_receipt, export_zip

    store = _store()
    if receipt is not None:
        count = export_receipt(store, receipt, out)
        _print(as_json, {"faces": count}, f"{out}: {count} faces and all that is held about them.")
        return
    report = export_zip(store, out)
    text = f"{out}: {sum(report.pictures.values())} pictures in {len(report.pictures)} folders."
    _print(as_json, asdict(report), text)


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A folder or zip with a folder for each label.")],
    as_decisions: Annotated[
        str | None,
        typer.Option("--as-decisions", metavar="NAME", help="The operator who answers for them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take labelled pictures in; their labels become suggestions, or an operator's decisions."""
    from dataclasses import asdict

    from fer.collection.importing import RecogniserReader, import_pictures
    from fer.registry import Registry
    from fer.vision.recogniser import Recogniser

    settings = load_settings()
    store = _store()
    recogniser = Recogniser(Registry(settings.models_dir), settings)
    recogniser.champion()
    try:
        report = import_pictures(
            store, source, RecogniserReader(recogniser), as_decisions=as_decisions
        )
    finally:
        recogniser.close()
    if as_json:
        typer.echo(json.dumps(asdict(report)))
        return
    typer.echo(f"{report.imported} taken in, {len(report.known)} were here already.")
    for name, reason in report.refused.items():
        typer.echo(f"{name}: {reason}")


def _store() -> SampleStore:
    from fer.collection.opening import open_store

    return open_store(load_settings())


def _interval(share: Proportion) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "nothing was decided in the audit slice yet"
    return f"{share.value:.1%} (95 %: {share.low:.1%} to {share.high:.1%}, n = {share.n})"


def _print(as_json: bool, value: dict[str, Any], text: str) -> None:
    typer.echo(json.dumps(value) if as_json else text)
