"""`fer operators`: who may sign in to the review console."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fer.config import load_settings
from fer.errors import OperatorError

if TYPE_CHECKING:
    from fer.collection.operators import Operators, OperatorView

app = typer.Typer(no_args_is_help=True, help="Add and remove those who review.")

Name = Annotated[str, typer.Argument(help="The operator's name.")]
Stdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="reviewer, or admin.")] = "reviewer",
    password_stdin: Stdin = False,
    as_json: Json = False,
) -> None:
    """Add an operator; asks for a password."""
    operator = _operators().add(name, _password(password_stdin), role)
    place = f"{load_settings().root_path}/sign-in"
    _print(as_json, _entry(operator), f"{operator.name} may sign in at {place} ({operator.role}).")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List operators with their roles."""
    operators = _operators().list()
    if as_json:
        typer.echo(json.dumps([_entry(operator) for operator in operators]))
        return
    for operator in operators:
        typer.echo(f"{operator.name}\t{operator.role}\tsince {operator.created_at:%Y-%m-%d}")
    if not operators:
        typer.echo("There is no operator yet: add one with `fer operators add NAME`.")


@app.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Remove an operator; their decisions stay."""
    _operators().remove(name)
    _print(as_json, {"removed": name}, f"{name} can no longer sign in.")


@app.command()
def passwd(name: Name, password_stdin: Stdin = False, as_json: Json = False) -> None:
    """Change an operator's password; their sessions end."""
    operators = _operators()
    if operators.get(name) is None:
        raise OperatorError(f"There is no operator {name!r}.", name=name)
    operators.set_password(name, _password(password_stdin))
    _print(as_json, {"changed": name}, f"{name} has a new password.")


def _operators() -> Operators:
    from fer.collection.opening import open_store
    from fer.collection.operators import Operators

    return Operators(open_store(load_settings()).database)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        # One line, without its end; spaces belong to the password.
        return sys.stdin.readline().rstrip("\r\n")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


def _entry(operator: OperatorView) -> dict[str, str]:
    return {
        "name": operator.name,
        "role": str(operator.role),
        "created_at": operator.created_at.isoformat(),
    }


def _print(as_json: bool, value: object, text: str) -> None:
    typer.echo(json.dumps(value) if as_json else text)
