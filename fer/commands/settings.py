"""`fer settings`: every setting with its value, its default and what it means."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import typer

from fer.config import Settings, is_loopback, load_settings


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    place = parts.netloc.replace(f":{parts.password}@", ":***@")
    return urlunsplit(parts._replace(netloc=place))


def _shown(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _without_password(str(value)) if name == "database_url" else str(value)


def _why_collect(settings: Settings) -> str:
    if settings.collect is not None:
        return "FER_COLLECT says so"
    where = "a loopback address, which only this machine reaches"
    if not is_loopback(settings.host):
        where = "an address that other machines may reach"
    return f"FER_COLLECT is not set and the page is bound to {settings.host}, {where}"


def describe(settings: Settings) -> list[dict[str, Any]]:
    """Each setting as a dictionary, in the order of `Settings`.

    Keys: `name` (the variable), `value`, `default`, `description`, and where an unset value
    stands for another, `effective` and `reason`. Passwords are replaced by `***`.
    """
    entries = []
    for name, field in Settings.model_fields.items():
        entry = {
            "name": f"FER_{name.upper()}",
            "value": _shown(name, getattr(settings, name)),
            "default": _shown(name, field.default),
            "description": field.description,
        }
        if name == "collect":
            entry["effective"] = settings.effective_collect
            entry["reason"] = _why_collect(settings)
        if name == "database_url":
            entry["effective"] = _without_password(settings.effective_database_url)
            entry["reason"] = (
                "FER_DATABASE_URL is not set: SQLite in FER_DATA_DIR"
                if settings.database_url is None
                else "FER_DATABASE_URL says so"
            )
        entries.append(entry)
    return entries


def register(app: typer.Typer) -> None:
    """Add `fer settings`."""

    @app.command()
    def settings(
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    ) -> None:
        """List every setting: its value, its default, what it means."""
        entries = describe(load_settings())
        if as_json:
            typer.echo(json.dumps(entries, indent=2))
            return
        for entry in entries:
            value = "(unset)" if entry["value"] is None else entry["value"]
            line = f"{entry['name']}={value}"
            if entry["value"] != entry["default"]:
                default = "unset" if entry["default"] is None else entry["default"]
                line += f"   (default: {default})"
            typer.echo(line)
            typer.echo(f"    {entry['description']}")
            if "effective" in entry:
                typer.echo(f"    In effect: {entry['effective']} ({entry['reason']}).")
