from __future__ import annotations

from pathlib import Path

import pytest

from fer.errors import TrainingError
from fer.learning.recipe import Recipe, knobs, read_recipe


def test_a_recipe_comes_back_from_the_file_it_writes(tmp_path: Path) -> None:
    recipe = Recipe(architecture="cnn", epochs=3, learning_rate=0.01, seed=9, class_weights="none")
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.as_toml())
    assert Recipe(**read_recipe(path)) == recipe


def test_every_knob_says_what_it_means() -> None:
    for name, _, default, meaning in knobs():
        assert meaning.endswith("."), name
        assert getattr(Recipe(), name) == default


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("speed = 3", "no knob 'speed'"),
        ('epochs = "many"', "epochs must be int"),
        ("epochs = true", "epochs must be int"),
        ("epochs = ", "cannot be read as TOML"),
    ],
)
def test_a_file_that_is_no_recipe_says_why(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=reason):
        read_recipe(path)


def test_a_whole_number_will_do_for_a_real_one(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("learning_rate = 1")
    assert read_recipe(path) == {"learning_rate": 1.0}


@pytest.mark.parametrize(
    "values",
    [
        {"schedule": "steps"},
        {"vote_weight": 1.5},
        {"epochs": -1},
        {"batch_size": 0},
        {"epochs": 2, "early_epochs": 3},
    ],
)
def test_impossible_values_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(TrainingError):
        Recipe(**values)
