"""Reports as a list of blocks, written as Markdown and as one self-contained HTML page."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer.files import write_atomically


@dataclass(frozen=True)
class Heading:
    """A heading of the second level."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of lines."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of cells; every row is as long as the header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"{len(self.header)} columns, but a row of {len(row)}")


@dataclass(frozen=True)
class Picture:
    """A PNG in the report's folder.

    Attributes:
        file: its name there.
        alt: what it shows, in words.
    """

    file: str
    alt: str


Block = Heading | Paragraph | Items | Table | Picture

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: left; }
th { background: var(--soft); }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
li { overflow-wrap: anywhere; }
"""

#: The page runs no script and fetches nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        title: its first heading.
        language: code of the language it is in, such as `en`.
    """

    title: str
    language: str
    blocks: Sequence[Block]

    def write(self, folder: Path) -> None:
        """Write `report.md` and `report.html` beside the pictures, which must be there."""
        write_atomically(folder / "report.md", self.markdown().encode())
        write_atomically(folder / "report.html", self.html(folder).encode())

    def markdown(self) -> str:
        """The report as Markdown, pictures by name."""
        parts = [f"# {_plain(self.title)}"]
        for block in self.blocks:
            match block:
                case Heading(text):
                    parts.append(f"## {_plain(text)}")
                case Paragraph(text):
                    parts.append(_plain(text))
                case Items(lines):
                    parts.append("\n".join(f"- {_plain(line)}" for line in lines))
                case Table(header, rows):
                    lines = [_row(header), "|---" * len(header) + "|", *map(_row, rows)]
                    parts.append("\n".join(lines))
                case Picture(file, alt):
                    parts.append(f"![{_plain(alt)}]({file})")
        return "\n\n".join(parts) + "\n"

    def html(self, folder: Path) -> str:
        """The report as one HTML page with its pictures inside.

        Args:
            folder: where the pictures lie.
        """
        body = [f"<h1>{html.escape(self.title)}</h1>"]
        for block in self.blocks:
            match block:
                case Heading(text):
                    body.append(f"<h2>{html.escape(text)}</h2>")
                case Paragraph(text):
                    body.append(f"<p>{html.escape(text)}</p>")
                case Items(lines):
                    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
                    body.append(f"<ul>{items}</ul>")
                case Table(header, rows):
                    head = "".join(f'<th scope="col">{html.escape(c)}</th>' for c in header)
                    cells = "".join(
                        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>"
                        for row in rows
                    )
                    body.append(
                        '<div class="wide"><table>'
                        f"<thead><tr>{head}</tr></thead><tbody>{cells}</tbody></table></div>"
                    )
                case Picture(file, alt):
                    data = base64.b64encode((folder / file).read_bytes()).decode()
                    source = f"data:image/png;base64,{data}"
                    body.append(f'<p><img src="{source}" alt="{html.escape(alt)}"></p>')
        return (
            f'<!doctype html>\n<html lang="{self.language}">\n<head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head>\n<body>\n"
            + "\n".join(body)
            + "\n</body>\n</html>\n"
        )


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in cells) + " |"


def _plain(text: str) -> str:
    # A file's or a label's name must not become markup where Markdown is shown as HTML.
    return html.escape(" ".join(text.split()), quote=False)
