"""What the commands that train share: progress, and one option for each knob of the recipe."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Callable, Collection
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fer.learning.recipe import knobs


def progress_bar(console: Console) -> Progress:
    """A bar for pictures or trials that are counted; it goes away when it is full."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def quiet_tensorflow() -> None:
    """Keep TensorFlow's notes on its inner life out of the output; before Keras is loaded."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def with_knobs(command: Callable[..., Any], without: Collection[str] = ()) -> Callable[..., Any]:
    """A command with one option for each knob of the recipe, in the place of `**given`.

    The default shown is the recipe's, the one passed is None: only so can a config file be told
    from an option.

    Args:
        command: takes the knobs as `**given`; it is left as it is.
        without: knobs that become no option.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    for name, type_, default, meaning in knobs():
        if name in without:
            continue
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

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        return command(*arguments, **options)

    # Typer reads a command's options from these two.
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return wrapped
