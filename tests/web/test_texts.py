"""Texts: the same keys in both languages, each used, each translated."""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

from fer import errors
from fer.errors import FerError, NoFaceError, PictureTooLargeError, StorageError
from fer.web.desk import KeepFacesError
from fer.web.texts import LANGUAGES, Texts, load, preferred

WEB = Path(__file__).parent.parent.parent / "fer" / "web"

#: Families of keys that are put together while running, and what their members may be.
FAMILIES = ("error.", "label.", "unit.", "figure.", "model.not_for", "empty.step")

#: Ends of strings that look like keys: file names, and a family's beginning.
NO_KEYS = (".js", ".md", ".jpg", "empty.step", "model.not_for")

#: Texts that are the same in both languages for a reason.
SAME = {"result.guess_item"}


def literals() -> set[str]:
    """Every string in the code of the web room, f-strings' beginnings included."""
    found = set()
    for path in WEB.glob("*.py"):
        if path.name.startswith("operator"):
            continue  # the operators' console has texts of its own
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def codes() -> list[str]:
    """The code of every error in the tree."""

    def below(kind: type[FerError]) -> list[type[FerError]]:
        return [kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))]

    assert errors.NoFaceError in below(FerError)
    assert KeepFacesError in below(FerError)
    return sorted({kind.code for kind in below(FerError)})


def test_both_languages_have_the_same_keys() -> None:
    assert set(load("en")) == set(load("id"))


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("key", sorted(load("en")))
def test_a_text_is_translated_with_its_placeholders(key: str) -> None:
    english, indonesian = load("en")[key], load("id")[key]
    assert english.strip() and indonesian.strip()
    assert placeholders(english) == placeholders(indonesian)
    if key not in SAME:
        assert english != indonesian, f"{key} is not translated"


def test_every_key_in_the_code_has_a_text_and_every_text_is_used() -> None:
    known = set(load("en"))
    used = {text for text in literals() if text in known}
    spelled = re.compile(r"[a-z]+(?:\.[a-z_0-9]+)+")
    prefixes = {key.split(".")[0] for key in known}
    for text in literals():
        if spelled.fullmatch(text) and text.split(".")[0] in prefixes:
            assert text in known or text.endswith(NO_KEYS), f"no text for {text!r}"
    unused = {key for key in known - used if not key.startswith(FAMILIES)}
    assert not unused


@pytest.mark.parametrize("code", codes())
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_error_has_a_sentence(code: str, language: str) -> None:
    assert f"error.{code}" in load(language)


@pytest.mark.parametrize("label", ["angry", "disgust", "fear", "happy", "neutral", "sad"])
def test_labels_are_translated_and_unknown_ones_are_shown_as_they_are(label: str) -> None:
    assert Texts("id").label(label) != label
    assert Texts("id").label(label.upper()) == Texts("id").label(label)
    assert Texts("id").label("Smirk") == "Smirk"


def test_the_named_words() -> None:
    words = ["marah", "jijik", "takut", "senang", "netral", "sedih", "terkejut"]
    names = ["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"]
    assert [Texts("id").label(name) for name in names] == words


def test_an_error_is_told_in_the_language_with_its_details() -> None:
    error = PictureTooLargeError("…", limit="40", unit="megapixels")
    assert "40 megapixels" in Texts("en").error(error)
    assert "40 megapiksel" in Texts("id").error(error)
    assert Texts("id").error(NoFaceError("No face.")) == load("id")["error.no_face"]


def test_an_error_without_its_details_still_gets_a_sentence() -> None:
    assert Texts().error(PictureTooLargeError("too large")) == load("en")["error.error"]


def test_a_reason_chooses_a_closer_sentence() -> None:
    assert Texts().error(StorageError("…", reason="full")) == load("en")["error.storage.full"]
    assert Texts().error(StorageError("…", reason="odd")) == load("en")["error.storage"]


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("id-ID,id;q=0.9,en;q=0.8", "id"),
        ("en-US,en;q=0.9,id;q=0.8", "en"),
        ("fr,de;q=0.9", "en"),
        ("fr, id;q=0.5, en;q=0.4", "id"),
        ("in-ID", "id"),
        ("id;q=0, en;q=0.1", "en"),
        ("id;q=none", "en"),
        (",".join(["xx"] * 1000), "en"),
    ],
)
def test_the_browser_chooses_the_language(header: str, language: str) -> None:
    assert preferred(header) == language


def test_percent_and_numbers() -> None:
    texts = Texts("id")
    assert texts.percent(0.874) == "87 %"
    assert texts.percent(0.001) == "<1 %"
    assert texts.percent(0) == "0 %"
    assert texts.percent(0.994) == "99 %"
    assert texts.percent(0.9951) == ">99 %"
    assert texts.percent(1) == "100 %"
    assert texts.number(0.5) == "0,500"


def test_html_is_escaped() -> None:
    shown = Texts().html("feedback.thanks", label="<img src=x>")
    assert "<img" not in shown and "&lt;img src=x&gt;" in shown
