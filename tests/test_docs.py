"""The documents say what the program does: every command, every setting, both languages."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

import fer.cli
from fer.config import Settings

ROOT = Path(fer.cli.__file__).parent.parent
READMES = ("README.md", "README.id.md")
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in READMES)])


def commands() -> Iterator[str]:
    """Every command as it is typed, such as `fer models list`."""

    def walk(name: str, command: object) -> Iterator[str]:
        children = getattr(command, "commands", None)
        if children is None:
            yield name
            return
        for child, below in children.items():
            yield from walk(f"{name} {child}", below)

    yield from walk("fer", typer.main.get_command(fer.cli.app))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def test_the_walk_finds_commands() -> None:
    assert {"fer settings", "fer models list", "fer models rollback"} <= set(commands())


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_is_documented(command: str) -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    assert re.search(rf"`{re.escape(command)}(?=[ `])", text), f"docs/commands.md lacks {command}"


def test_no_command_is_documented_that_is_gone() -> None:
    known = set(commands())
    groups = {" ".join(command.split()[:2]) for command in known}
    named = re.findall(r"^#+ `(fer [^`]*)`", (ROOT / "docs" / "commands.md").read_text(), re.M)
    assert named
    for heading in named:
        words = re.match(r"fer(?: [a-z]+)*", heading)[0]  # type: ignore[index]
        assert words in known | groups, f"docs/commands.md describes {words}, which is no command"


def test_every_setting_is_documented_and_none_that_is_gone() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    listed = re.findall(r"^\| `(FER_[A-Z_]+)`", text, re.M)
    assert sorted(listed) == sorted(f"FER_{name.upper()}" for name in Settings.model_fields)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_the_documented_default_is_the_default(name: str) -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    row = re.search(rf"^\| `FER_{name.upper()}` \| ([^|]*) \|", text, re.M)
    default = Settings.model_fields[name].default
    expected = "unset" if default is None else "empty" if default == "" else f"`{default}`"
    assert row is not None
    assert row[1].strip() == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = without_code(page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)|<img [^>]*src=\"([^\"]+)\"", text):
        link = target[0] or target[1]
        if re.match(r"[a-z]+:", link) or link.startswith("#"):
            continue
        assert (page.parent / link.split("#")[0]).exists(), f"{page.name} links to {link}"


def test_both_readmes_have_the_same_build() -> None:
    texts = [(ROOT / name).read_text() for name in READMES]
    headings = [re.findall(r"^(#+) ", without_code(text), re.M) for text in texts]
    assert headings[0] == headings[1]
    # A comment in a code block may be translated; what one types may not differ.
    blocks = [
        [re.sub(r" *#.*", "", block) for block in re.findall(r"^```.*?^```$", text, re.M | re.S)]
        for text in texts
    ]
    assert blocks[0]
    assert blocks[0] == blocks[1]
    figures = [re.findall(r"^\|[^|]*\|(.*\d.*)\|$", text, re.M) for text in texts]
    assert [re.findall(r"[\d.,]+", row) for row in figures[0]] == [
        re.findall(r"[\d.,]+", row.replace(",", ".")) for row in figures[1]
    ]


def test_the_two_commands_come_first() -> None:
    for name in READMES:
        text = (ROOT / name).read_text()
        first = re.search(r"^```.*?^```$", text, re.M | re.S)
        assert first is not None
        assert "make run" in first[0]


def test_every_make_target_in_the_readmes_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for name in READMES:
        text = (ROOT / name).read_text()
        named = re.findall(r"(?:`|^)make ([a-z-]+)", text, re.M)
        assert named
        assert set(named) <= targets
