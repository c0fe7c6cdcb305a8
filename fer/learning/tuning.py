"""Search for the knobs that matter most, by trying some and learning from what came of them.

KerasTuner proposes (Bayesian optimisation over the trials so far), a short training on the same
splits answers with its validation score. What was tried is kept in the run folder, so that a
search that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner.errors import FatalError

from fer.errors import FerError, TrainingError
from fer.learning.architectures import FREEZE_POINTS, Network, build_core
from fer.learning.augmentation import Augmentation
from fer.learning.recipe import Recipe

#: Every trial with its knobs and score, best first; a search that has it is over.
TUNING_FILE = "tuning.json"

#: Trains with a recipe in a folder and returns the best validation score.
Fit = Callable[[Recipe, Path], float]


def search(
    recipe: Recipe, fit: Fit, folder: Path, trials: int, epochs: int, say: Callable[[str], None]
) -> Recipe:
    """The recipe with the best learning rate, dropout, frozen layers and augmentation found.

    Args:
        fit: tries a recipe.
        folder: the run folder; `tuning.json` in it tells every trial.
        trials: how many recipes are tried; the one given is the first of them.
        epochs: epochs of fine-tuning of a trial; 0 for the recipe's.

    Raises:
        TrainingError: a trial cannot be trained, or the recipe has nothing to tune.
    """
    if recipe.epochs == 0:
        raise TrainingError("There is nothing to tune without epochs of fine-tuning.")
    space = keras_tuner.HyperParameters()
    low, high = recipe.learning_rate / 10, recipe.learning_rate * 5
    space.Float("learning_rate", low, high, sampling="log", default=recipe.learning_rate)
    space.Float("dropout", 0.0, 0.6, step=0.1, default=min(round(recipe.dropout, 1), 0.6))
    space.Choice("unfreeze", unfreeze_choices(recipe), default=recipe.unfreeze)
    space.Float("augmentation", 0.0, 2.0, step=0.25, default=1.0)
    # The search writes there, trials train there; only what tells about them stays afterwards.
    place = folder / "trials"
    searcher = _Searcher(recipe, fit, place, space, trials, epochs, say)
    try:
        searcher.search(verbose=0)
    except FatalError as error:
        cause = error.__cause__
        raise cause if isinstance(cause, FerError) else TrainingError(str(error)) from error
    done = [t for t in searcher.oracle.trials.values() if t.score is not None]
    if not done:
        raise TrainingError("None of the trials could be trained.")
    done.sort(key=lambda trial: -trial.score)
    told = [{"score": t.score, **t.hyperparameters.values} for t in done]
    best = with_values(recipe, done[0].hyperparameters.values)
    (folder / TUNING_FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(place)
    chosen = ", ".join(f"{name} {value:.4g}" for name, value in told[0].items())
    say(f"Best of {len(done)} trials: {chosen}.")
    return best


def with_values(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """`recipe` with the knobs of one trial."""
    names = [field.name for field in fields(Augmentation)]
    varied = Augmentation(**{name: getattr(recipe, name) for name in names})
    scaled = varied.scaled(float(values["augmentation"]))
    return replace(
        recipe,
        learning_rate=float(values["learning_rate"]),
        dropout=float(values["dropout"]),
        unfreeze=int(values["unfreeze"]),
        **asdict(scaled),
    )


def unfreeze_choices(recipe: Recipe) -> list[int]:
    """Values of `unfreeze` to choose from: all layers, those above a freeze point, the recipe's."""
    # Only the order of the layers counts, so that two classes and a small side are enough.
    core = build_core(Network(recipe.architecture, 2, 32, 32))
    weighted = [layer for layer in core.layers if layer.weights]
    found = {-1, recipe.unfreeze} - {0}
    for point in FREEZE_POINTS[recipe.architecture]:
        below = core.layers[: core.layers.index(core.get_layer(point)) + 1]
        above = [layer for layer in weighted if layer not in below]
        if above:
            found.add(len(above))
    return sorted(found)


class _Searcher(keras_tuner.engine.base_tuner.BaseTuner):
    """KerasTuner's loop around `fit`."""

    def __init__(
        self,
        recipe: Recipe,
        fit: Fit,
        place: Path,
        space: keras_tuner.HyperParameters,
        trials: int,
        epochs: int,
        say: Callable[[str], None],
    ) -> None:
        self.recipe, self.fit, self.place, self.say = recipe, fit, place, say
        self.epochs = epochs or recipe.epochs
        self.trials = trials
        oracle = _Oracle(
            objective=keras_tuner.Objective("score", "max"),
            max_trials=trials,
            hyperparameters=space,
            seed=recipe.seed,
        )
        super().__init__(oracle, directory=str(place.parent), project_name=place.name)

    def run_trial(self, trial: Any, *arguments: Any, **options: Any) -> dict[str, float]:
        """Train one recipe in a folder of its own, which goes afterwards."""
        values = trial.hyperparameters.values
        told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.say(f"Trial {int(trial.trial_id) + 1} of {self.trials}: {told}.")
        folder = self.place / f"training_{trial.trial_id}"
        folder.mkdir(parents=True, exist_ok=True)
        tried = with_values(self.recipe, values)
        tried = replace(
            tried, epochs=self.epochs, early_epochs=min(tried.early_epochs, self.epochs - 1)
        )
        # A trial leaves its graphs behind; thirty of them would fill the memory.
        keras.utils.clear_session()
        try:
            score = self.fit(tried, folder)
        except FerError as error:
            # KerasTuner would try the next one; but what is wrong is wrong with all of them.
            raise FatalError(error.message) from error
        shutil.rmtree(folder)
        return {"score": score}


class _Oracle(keras_tuner.oracles.BayesianOptimizationOracle):
    """Proposes the recipe as it was given first, so that a search never ends below it."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The knobs of the next trial."""
        if int(trial_id) == 0:
            values = {p.name: p.default for p in self.hyperparameters.space}
            return {"status": "RUNNING", "values": values}
        answer: dict[str, Any] = super().populate_space(trial_id)
        return answer
