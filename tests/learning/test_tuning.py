"""The search for knobs: what it tries, what it keeps, how it goes on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from fer.errors import TrainingError
from fer.learning.architectures import Network, build_core
from fer.learning.recipe import Recipe
from fer.learning.tuning import TUNING_FILE, search, unfreeze_choices, with_values

RECIPE = Recipe(architecture="cnn", epochs=8, learning_rate=1e-3, dropout=0.3, early_epochs=6)


def score(recipe: Recipe) -> float:
    """Best at a learning rate of 3e-3 and no dropout."""
    return -abs(math.log(recipe.learning_rate / 3e-3)) - recipe.dropout


class Tries:
    """Stands for a training: notes the recipes and scores them, and may break down."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.recipes: list[Recipe] = []
        self.stop_at = stop_at

    def __call__(self, recipe: Recipe, folder: Path) -> float:
        if len(self.recipes) == self.stop_at:
            raise KeyboardInterrupt
        assert folder.is_dir()
        self.recipes.append(recipe)
        return score(recipe)


def test_the_best_of_the_tried_recipes_comes_back(tmp_path: Path) -> None:
    tries = Tries()
    best = search(RECIPE, tries, tmp_path, 6, 2, lambda line: None)
    assert len(tries.recipes) == 6
    # The first is the recipe itself, but for the epochs of a trial.
    assert tries.recipes[0] == replace(RECIPE, epochs=2, early_epochs=1)
    assert len({(r.learning_rate, r.dropout, r.unfreeze, r.shift) for r in tries.recipes}) == 6
    assert score(best) == max(map(score, tries.recipes))
    assert (best.epochs, best.early_epochs) == (8, 6), "the training itself keeps its epochs"
    told = json.loads((tmp_path / TUNING_FILE).read_text())
    assert [trial["score"] for trial in told] == sorted(map(score, tries.recipes), reverse=True)
    assert {"learning_rate", "dropout", "unfreeze", "augmentation"} < set(told[0])
    assert [path.name for path in tmp_path.iterdir()] == [TUNING_FILE]


def test_a_stopped_search_goes_on_where_it_was(tmp_path: Path) -> None:
    first, second = Tries(stop_at=2), Tries()
    with pytest.raises(KeyboardInterrupt):
        search(RECIPE, first, tmp_path, 4, 1, lambda line: None)
    best = search(RECIPE, second, tmp_path, 4, 1, lambda line: None)
    assert len(first.recipes) == 2
    # The trial that was cut off is tried again, the finished ones are not.
    assert len(second.recipes) == 2
    assert score(best) == max(map(score, first.recipes + second.recipes))


def test_what_is_wrong_with_every_trial_ends_the_search(tmp_path: Path) -> None:
    def refuse(recipe: Recipe, folder: Path) -> float:
        raise TrainingError("The weights cannot be used.")

    with pytest.raises(TrainingError, match="weights cannot be used"):
        search(RECIPE, refuse, tmp_path, 3, 1, lambda line: None)


def test_nothing_to_tune_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to tune"):
        search(replace(RECIPE, epochs=0, early_epochs=0), Tries(), tmp_path, 3, 1, print)


def test_the_strength_scales_all_variation_but_the_mirror() -> None:
    values = {"learning_rate": 2e-3, "dropout": 0.1, "unfreeze": 4, "augmentation": 2.0}
    tuned = with_values(RECIPE, values)
    assert (tuned.learning_rate, tuned.dropout, tuned.unfreeze) == (2e-3, 0.1, 4)
    assert tuned.shift == 2 * RECIPE.shift
    assert tuned.flip == RECIPE.flip
    assert tuned.blur == 1.0, "a share goes up to 1"
    assert tuned.seed == RECIPE.seed


@pytest.mark.parametrize("architecture", ["cnn", "mobilenet"])
def test_layers_to_freeze_are_all_or_down_to_a_freeze_point(architecture: str) -> None:
    choices = unfreeze_choices(replace(RECIPE, architecture=architecture, unfreeze=3))
    assert -1 in choices and 3 in choices and 0 not in choices
    weighted = [x for x in build_core(Network(architecture, 2, 32, 32)).layers if x.weights]
    # Above the last freeze point lies the layer of the logits alone.
    assert 1 in choices
    assert all(choice <= len(weighted) for choice in choices)
    if architecture == "mobilenet":
        # Above conv_pw_12_relu: two convolutions with a normalisation each, and the logits.
        assert 5 in choices
