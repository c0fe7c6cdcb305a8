"""The `fer` command. It only composes: each module of `fer/commands` brings its own commands.

A module exposes either `app`, a Typer application that becomes `fer <module> …`, or
`register(app)`, which adds its commands to the top level. They import what is heavy inside
their functions, so that `fer --help` answers at once.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import Annotated

import typer

import fer.commands
from fer import __version__
from fer.errors import FerError


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fer {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Tell the expression on a face, keep what was seen, put it right, learn from that."""


def build() -> typer.Typer:
    """The whole command, composed of every module in `fer/commands`."""
    composed = typer.Typer(
        no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
    )
    composed.callback()(_root)
    for found in sorted(pkgutil.iter_modules(fer.commands.__path__), key=lambda m: m.name):
        if found.name.startswith("_"):
            continue
        module = importlib.import_module(f"fer.commands.{found.name}")
        if hasattr(module, "register"):
            module.register(composed)
        if hasattr(module, "app"):
            composed.add_typer(module.app, name=found.name)
    return composed


app = build()


def main() -> None:
    """Run `fer`; an error meant for the person who caused it ends with one sentence and code 1."""
    try:
        app()
    except FerError as error:
        print(f"fer: {error.message}", file=sys.stderr)
        sys.exit(1)
