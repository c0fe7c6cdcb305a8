"""The table of defences fits the code, and the documents name its entries."""

from __future__ import annotations

import re

import pytest

from tests.defences.table import DOCUMENTS, ROOT, Defence, load, named, rows

TABLE = load()


@pytest.mark.parametrize("defence", TABLE.values(), ids=lambda defence: defence.name)
def test_a_defence_is_where_the_table_says(defence: Defence) -> None:
    """Whoever changes the code it names finds out here what the table must say now."""
    texts: dict[str, str] = {}
    for edit in defence.edits:
        assert edit.file.startswith(("fer/", "deploy/", "app.py", "retrain.py"))
        before = texts.get(edit.file) or (ROOT / edit.file).read_text(encoding="utf-8")
        texts[edit.file] = edit.apply(before)
    for file, text in texts.items():
        if file.endswith(".py"):
            compile(text, file, "exec")
    for node in defence.tests:
        path, _, name = node.partition("::")
        test = name.partition("[")[0]
        assert re.search(rf"^def {test}\(", (ROOT / path).read_text("utf-8"), re.M), node


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_row_names_its_defences_or_says_why_there_is_none(document: str) -> None:
    found = rows(document)
    assert len(found) > 10
    for first, last in found:
        reason = last.partition("—")[2].strip()
        assert named(last) or len(reason) > 20, f"docs/{document}.md: {first!r} says {last!r}"
        unknown = set(named(last)) - set(TABLE)
        assert not unknown, f"docs/{document}.md: {first!r} names {unknown}"


def test_no_entry_is_forgotten_by_the_documents() -> None:
    told = {name for document in DOCUMENTS for _, last in rows(document) for name in named(last)}
    assert set(TABLE) == told
