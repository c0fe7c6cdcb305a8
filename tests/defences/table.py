"""The table of defences: which text is one, what takes it away, which tests must then fail.

It lies in the `.toml` files beside this module, one entry for each defence:

    [name]
    file = "fer/…"        # the file that holds it
    defence = '''…'''     # its text, which occurs there once
    without = '''…'''     # what stands there when it is taken away
    tests = ["tests/…"]   # each of them must fail by an assertion of its own
    also = [{ file = …, defence = …, without = … }]   # where two layers each suffice
    by = "…"              # an exception that may end the tests too, in place of an assertion

The documents name the entries in the last column of their tables.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: The documents whose tables name defences, and the heading that their tables stand below.
DOCUMENTS = {
    "security": "## Attacks, defences, tests",
    "privacy": "## Tested",
    "reliability": "## What holds, and how each test was seen to fail",
}

_KEYS = {"file", "defence", "without", "tests", "also", "by"}


@dataclass(frozen=True)
class Edit:
    """A text of a file, and what stands in its place when the defence is taken away."""

    file: str
    defence: str
    without: str

    def apply(self, text: str) -> str:
        """`text` without the defence.

        Raises:
            ValueError: the defence is not there, or not once.
        """
        found = text.count(self.defence)
        if found != 1:
            raise ValueError(f"{self.file} holds this {found} times:\n{self.defence}")
        if self.defence == self.without:
            raise ValueError(f"{self.file}: nothing is taken away from {self.defence!r}")
        return text.replace(self.defence, self.without)


@dataclass(frozen=True)
class Defence:
    """One entry of the table.

    Attributes:
        name: as documents write it.
        edits: what takes it away; several where each of several layers suffices alone.
        tests: node ids; a parametrised test may be named without its parameters.
        by: name of an exception that may end the tests too, in place of an assertion.
    """

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    by: str = "AssertionError"


def load(folder: Path = Path(__file__).parent) -> dict[str, Defence]:
    """Every entry, by name."""
    found: dict[str, Defence] = {}
    for path in sorted(folder.glob("*.toml")):
        for name, entry in tomllib.loads(path.read_text(encoding="utf-8")).items():
            unknown = set(entry) - _KEYS
            if unknown or name in found or not entry["tests"]:
                raise ValueError(f"{path.name}: {name}: {unknown or 'twice, or without a test'}")
            edits = [entry, *entry.get("also", [])]
            found[name] = Defence(
                name,
                tuple(Edit(edit["file"], edit["defence"], edit["without"]) for edit in edits),
                tuple(entry["tests"]),
                entry.get("by", "AssertionError"),
            )
    return found


def rows(document: str) -> list[tuple[str, str]]:
    """First and last cell of each row of a document's tables of attacks or faults."""
    text = (ROOT / "docs" / f"{document}.md").read_text(encoding="utf-8")
    _, found, rest = text.partition(DOCUMENTS[document] + "\n")
    if not found:
        raise ValueError(f"docs/{document}.md has no {DOCUMENTS[document]!r}")
    part = re.split(r"^## ", rest, maxsplit=1, flags=re.M)[0]
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for line in part.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]
    heads = ("Attack", "What must hold", "Fault")
    return [(row[0], row[-1]) for row in cells if row[0] not in heads]


def named(cell: str) -> list[str]:
    """The entries that a cell names."""
    return re.findall(r"`([^`]+)`", cell.split("—")[0])
