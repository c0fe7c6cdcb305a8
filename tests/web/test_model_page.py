"""About this model: what is shown of a manifest, whole or poor."""

from __future__ import annotations

from pathlib import Path

import pytest

from fer.registry import Registry
from fer.web.model_page import choices, model_card, model_page
from fer.web.texts import Texts
from tests.support import make_version

CONFUSION = [[8, 2], [1, 9]]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_figures_and_confusion_are_shown(models: Path) -> None:
    version = make_version(
        models,
        ("happy", "sad"),
        title="Two moods",
        metrics={"accuracy": 0.85, "ece": 0.031, "n": 20, "confusion": CONFUSION},
    )
    page = model_page(Registry(models), version, Texts("id"))
    assert "Two moods" in page and "senang" in page and "sedih" in page
    assert "85,0 %" in page and "0,031" in page and ">20<" in page
    # Of ten happy ones eight were read as happy.
    assert "--share:0.800" in page and "80 %" in page


def test_a_figure_is_shown_with_its_interval(models: Path) -> None:
    metrics = {"accuracy": 0.85, "accuracy_interval": [0.801, 0.888], "ece": 0.03}
    version = make_version(models, metrics=metrics | {"ece_interval": "wide"})
    page = model_page(Registry(models), version, Texts("id"))
    assert "<dd>85,0 %<small>Selang 95 %: 80,1 % … 88,8 %</small></dd>" in page
    assert ">0,030</dd>" in page


@pytest.mark.parametrize("where", ["test", "validation", "base hold-out"])
def test_figures_of_a_split_are_found(models: Path, where: str) -> None:
    version = make_version(models, metrics={"seed": 1, where: {"accuracy": 0.7}})
    assert "70.0 %" in model_page(Registry(models), version, Texts())


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"accuracy": "high"},
        {"accuracy": 0.5, "confusion": "none"},
        {"accuracy": 0.5, "confusion": [[1]]},
        {"accuracy": 0.5, "confusion": [["a", "b"], [1, 2]]},
        {"accuracy": 0.5, "confusion": [[0, 0], [0, 0]], "labels": ["only one"]},
    ],
)
def test_a_poor_manifest_still_makes_a_page(models: Path, metrics: dict[str, object]) -> None:
    version = make_version(models, ("happy", "sad"), metrics=metrics)
    page = model_page(Registry(models), version, Texts())
    assert "What it is not for" in page and "<table" not in page


def test_what_a_manifest_says_is_escaped(models: Path) -> None:
    version = make_version(models, title="<script>alert(1)</script>")
    page = model_page(Registry(models), version, Texts())
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_without_a_model_the_page_explains(models: Path) -> None:
    assert "No model can serve" in model_page(Registry(models), None, Texts())
    assert model_card(Registry(models), None, "en") == ""


def test_the_card_is_in_the_language_where_it_can_be(models: Path) -> None:
    cards = {"card.md": b"# Card", "card.id.md": b"# Kartu"}
    both = make_version(models, extra_files=cards)
    one = make_version(models, number=1, extra_files={"card.md": b"# Card"})
    registry = Registry(models)
    assert model_card(registry, both, "id") == "# Kartu"
    assert model_card(registry, both, "en") == model_card(registry, one, "id") == "# Card"
    (models / both / "card.id.md").write_text("# forged")
    assert model_card(registry, both, "id") == "# Card"


def test_the_picker_names_each_with_its_figure_and_the_current_one_first(models: Path) -> None:
    old = make_version(models, title="Old", metrics={"ferplus_accuracy": 0.8})
    new = make_version(models, title="New", number=1, metrics={"accuracy": 0.6})
    found = choices(Registry(models), new, Texts())
    assert [value for _, value in found] == ["", old]
    assert "New" in found[0][0] and "60 %" in found[0][0]
    assert "Old" in found[1][0] and "80 %" in found[1][0]


@pytest.mark.parametrize(("language", "said"), [("en", "train one"), ("id", "melatih")])
def test_without_a_model_the_page_says_what_is_missing(
    models: Path, language: str, said: str
) -> None:
    shown = model_page(Registry(models), None, Texts(language))
    assert Texts(language)("error.no_model")[:20] in shown
    assert said in shown
