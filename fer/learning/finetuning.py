"""Fine-tune the tail of a network on new and replayed activations, without forgetting.

The frozen part of the network has turned every face into an activation before; only what lies
above the freeze point is trained, so one fine-tuning takes seconds, and a cross-fit is six of them.

Shapes throughout: activations float16 (n, ...), as the frozen part gives them; targets float32
(n, k), rows that sum to 1; labels int64 (n,), positions in the label set; logits float32 (n, k).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from fer.learning.augmentation import Augmentation
from fer.learning.chances import label_chances, mixtures, replay_chances, with_doubt
from fer.learning.domains import (
    BIASES,
    FITTED,
    GATE,
    MATRIX,
    fit_correction,
    fit_gate,
    has_domains,
    layer_weights,
    matrix_penalty,
    moments_of,
    opened,
    share_biases,
    with_domains,
    with_layers,
)
from fer.learning.evaluation import softmax
from fer.learning.knobs import FineTuning
from fer.learning.newfaces import NewFaces, Report, held_back_groups, varied_activations
from fer.learning.replay import Halves, Replay, cut

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Weights = list[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Tuned:
    """What a fine-tuning found.

    Attributes:
        weights: of the tail, mixed already.
        mix: share of the fine-tuned weights in them, 0…1; at 0 they are the champion's, but for
            what its domain gate was given.
        curve: value on the part held back after each round, the champion's first; less is better.
    """

    weights: Weights
    mix: float
    curve: tuple[float, ...]


class Tuner:
    """Fine-tunes copies of one champion's tail.

    Args:
        model: the champion's serving graph; `Tuner.model` is that graph with its domain gate. Its
            tail's weights change while a fine-tuning runs, and are the champion's again afterwards.
        replay: what lies beside it.
    """

    def __init__(self, model: keras.Model, replay: Replay, knobs: FineTuning) -> None:
        self.model = with_domains(model, replay.freeze_point) if knobs.domains else model
        self.replay, self.knobs = replay, knobs
        self.frozen, self.tail = cut(self.model, replay.freeze_point)
        self.champion: Weights = self.tail.get_weights()
        self._stored_logits = self.logits(replay.activations)
        self._replay_targets = self._distilled(replay)
        self._replay_chance = replay_chances(replay, knobs.replay_balance)
        for layer in self.tail.layers:
            # Frozen batch norm runs on the champion's moments, in training too.
            # The gate and what is behind it are fitted, not stepped.
            fixed = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = not (fixed or layer.name in FITTED)
        alone = sum(bool(layer.trainable_weights) for layer in self.tail.layers) == 1
        self.rate = knobs.head_learning_rate if alone else knobs.learning_rate
        optimizer = keras.optimizers.AdamW(
            self.rate, weight_decay=knobs.weight_decay, global_clipnorm=5.0
        )
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        self.tail.compile(
            optimizer=optimizer,
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
            # XLA makes depthwise convolutions six times slower on a CPU.
            jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
        )
        optimizer.build(self.tail.trainable_variables)
        self._fresh = [keras.ops.convert_to_numpy(v) for v in optimizer.variables]

    def new_faces(
        self,
        crops: npt.NDArray[np.uint8],
        targets: Floats,
        labels: Ints,
        groups: Ints,
        report: Report = lambda done, total: None,
    ) -> NewFaces:
        """Run new crops and their varied copies through the frozen part, once."""
        knobs = self.knobs
        augmentation = Augmentation().scaled(knobs.strength)
        stacked = varied_activations(
            self.frozen, crops, knobs.copies, augmentation, knobs.seed, report
        )
        return NewFaces(stacked, targets, labels, groups, np.unique(labels))

    def logits(self, inputs: Halves, weights: Weights | None = None) -> Floats:
        """Answers of the tail with `weights`, or with the champion's."""
        self.tail.set_weights(self.champion if weights is None else weights)
        answers = [
            keras.ops.convert_to_numpy(
                self.tail.predict_on_batch(inputs[start : start + 512].astype(np.float32))
            )
            for start in range(0, len(inputs), 512)
        ]
        self.tail.set_weights(self.champion)
        width = self.replay.targets.shape[1]
        return np.concatenate(answers) if answers else np.empty((0, width), np.float32)

    def fit(self, new: NewFaces, seed: int = 0, report: Report = lambda d, t: None) -> Tuned:
        """Fine-tune on `new` and the replayed faces; stop early and mix on a part held back.

        Args:
            seed: added to the knobs' seed, so that each fold draws its own.
            report: called with rounds done and rounds in all.
        """
        knobs = self.knobs
        rng = np.random.default_rng((knobs.seed, seed))
        held = held_back_groups(new, knobs.held_back, rng)
        train, held_new = new.take(~held), new.take(held)
        held_replay = rng.random(len(self._replay_targets)) < knobs.held_back
        replay_rows = np.flatnonzero(~held_replay)
        own = softmax(self.logits(train.activations[:, 0]))
        right = float((own.argmax(axis=1) == train.labels).mean()) if len(train) else 0.0
        start = self._with_fitted_domains(train, own, right, replay_rows)
        batches = _Batches(self, train, right, replay_rows, rng, start)
        score = self._scorer(held_new, np.flatnonzero(held_replay))

        self.tail.set_weights(start)
        optimizer = self.tail.optimizer
        for variable, value in zip(optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        curve = [score(self.champion)]
        best: Weights = start
        after: list[Weights] = []
        waited, total = 0, knobs.rounds * knobs.steps
        for round_ in range(knobs.rounds):
            for step in range(round_ * knobs.steps, (round_ + 1) * knobs.steps):
                falling = 0.55 + 0.45 * float(np.cos(np.pi * step / total))
                optimizer.learning_rate.assign(self.rate * falling)
                self.tail.train_on_batch(*batches.draw())
            after.append(self.tail.get_weights())
            first = min(int(len(after) * (1 - knobs.average)), len(after) - 1)
            candidate = averaged(after[first:])
            curve.append(score(candidate))
            self.tail.set_weights(after[-1])
            report(round_ + 1, knobs.rounds)
            if len(after) <= knobs.fewest_rounds or curve[-1] <= min(curve[knobs.fewest_rounds :]):
                best, waited = candidate, 0
            else:
                waited += 1
            if waited >= knobs.patience:
                break
        self.tail.set_weights(self.champion)
        if not knobs.interpolate:
            return Tuned(self._with_shares(best, right), 1.0, tuple(curve))
        largest = with_doubt(knobs.largest_mix, right)
        if has_domains(self.model):
            # The correction is in already; what is left to learn is what the champion cannot read.
            largest = (1 - right) ** 2
        mixes = [round(largest * tenth / 10, 3) for tenth in range(11)]
        values = [score(mixed(start, best, mix)) for mix in mixes]
        if curve[0] <= min(values):
            return Tuned(self.champion, 0.0, tuple(curve))
        mix = mixes[int(np.argmin(values))]
        challenger = self._with_shares(mixed(start, best, mix), right)
        return Tuned(challenger, mix, tuple(curve))

    def become(self, tuned: Tuned) -> None:
        """Give the model, and not only its tail, the fine-tuned weights for good."""
        self.tail.set_weights(tuned.weights)
        for layer in self.tail.layers:
            layer.trainable = True

    def _with_shares(self, weights: Weights, right: float) -> Weights:
        """`weights` with last biases that give replayed faces each label as often as before.

        Args:
            right: as in `with_doubt`. Below a half less is put back, and at 0 nothing: the shares
                of a champion that cannot read new faces are not worth keeping for them.
        """
        stored = self.replay.activations
        strength = self.knobs.shares * min(1.0, 2 * right)
        if not len(stored) or not strength:
            return weights
        after = self.logits(stored, weights)
        moved = share_biases(self._stored_logits, after, self._replay_chance)
        kernel, bias = layer_weights(self.tail, weights, "logits")
        bias = bias + np.asarray(strength * moved, bias.dtype)
        return with_layers(self.tail, weights, {"logits": [kernel, bias]})

    def _with_fitted_domains(
        self, new: NewFaces, own: Doubles, right: float, replay_rows: Ints
    ) -> Weights:
        """The champion's weights, corrected behind a gate for `new`; see `fer.learning.domains`.

        It is fitted from nothing each time, so that what one camera asked for goes again where
        later decisions speak against it.

        Args:
            own: the champion's answers to `new` as probabilities.
            right: share of them that are right.
        """
        stored, fresh = self.replay.activations[replay_rows], new.activations[:, 0]
        if not (has_domains(self.model) and len(fresh) and len(stored)):
            return self.champion
        moments = [moments_of(each) for each in (fresh, stored)]
        kernel, bias = fit_gate(*moments)
        shut = {GATE: [kernel, bias], BIASES: None, MATRIX: None}
        weights = with_layers(self.tail, self.champion, shut)

        trust = with_doubt(self.knobs.domain_trust, right)
        targets = new.wanted(own, trust, self.knobs.smoothing)
        each = label_chances(new.labels, self.knobs.class_balance)
        chance = self._replay_chance[replay_rows]
        logits = self.logits(np.concatenate([fresh, stored]), weights)
        # How well it reads them uncorrected: its own correction, if it has one, goes.
        read = float((logits[: len(new)].argmax(axis=1) == new.labels).mean())
        matrix, biases = fit_correction(
            opened(np.concatenate(moments), kernel, bias),
            logits,
            np.concatenate([targets, self._replay_targets[replay_rows]]),
            np.concatenate([each, chance / chance.sum()]) / 2,
            matrix_penalty(read, len(new)),
        )
        return with_layers(self.tail, weights, {BIASES: [biases], MATRIX: [matrix]})

    def _distilled(self, replay: Replay) -> Floats:
        share = self.knobs.distillation
        answers = softmax(self._stored_logits)
        return np.asarray((1 - share) * replay.targets + share * answers, np.float32)

    def _scorer(self, new: NewFaces, replay_rows: Ints) -> Callable[[Weights], float]:
        """Cross entropy on what is held back: new faces, balanced by label, and replayed ones."""
        inputs = np.concatenate([new.activations[:, 0], self.replay.activations[replay_rows]])
        n = len(new)
        weight = self.knobs.forgetting

        def score(weights: Weights) -> float:
            logits = self.logits(inputs, weights)
            fresh = balanced_cross_entropy(logits[:n], new.targets, new.labels)
            each = cross_entropy(logits[n:], self._replay_targets[replay_rows])
            old = float(np.average(each, weights=self._replay_chance[replay_rows]))
            return (1 - weight) * fresh + weight * old

        return score


class _Batches:
    """Endless batches of new and replayed activations, balanced by origin and by label."""

    def __init__(
        self,
        tuner: Tuner,
        new: NewFaces,
        right: float,
        replay_rows: Ints,
        rng: np.random.Generator,
        start: Weights,
    ) -> None:
        knobs = tuner.knobs
        self.rng, self.new = rng, new
        # What softens a label already knows what is common among visitors.
        own = softmax(tuner.logits(new.activations[:, 0], start))
        trust = with_doubt(knobs.trust, right)
        self.targets = new.wanted(own, trust, knobs.smoothing)
        self.chance = label_chances(new.labels, knobs.class_balance)
        old = tuner._replay_chance[replay_rows]
        old = old / old.sum()
        self.replay = tuner.replay.activations[replay_rows]
        self.replay_targets = tuner._replay_targets[replay_rows]
        between = mixtures(self.replay, old, round(knobs.mixtures * len(replay_rows)), rng)
        if len(between):
            answers = softmax(tuner.logits(between))
            self.replay = np.concatenate([self.replay, between])
            self.replay_targets = np.concatenate([self.replay_targets, answers])
            old = np.concatenate([old / 2, np.full(len(between), 0.5 / len(between))])
        self.replay_chance = old
        self.fresh = round(knobs.batch * knobs.new_share)
        self.old = knobs.batch - self.fresh

    def draw(self) -> tuple[Floats, Floats]:
        rows = self.rng.choice(len(self.new), self.fresh, p=self.chance)
        copy = self.rng.integers(0, self.new.activations.shape[1], self.fresh)
        old = self.rng.choice(len(self.replay), self.old, p=self.replay_chance)
        inputs = np.concatenate([self.new.activations[rows, copy], self.replay[old]])
        targets = np.concatenate([self.targets[rows], self.replay_targets[old]])
        return inputs.astype(np.float32), targets


def averaged(rounds: Sequence[Weights]) -> Weights:
    """Mean of the weights after several rounds, at least one."""
    return [np.asarray(np.mean(each, axis=0), each[0].dtype) for each in zip(*rounds, strict=True)]


def mixed(champion: Weights, tuned: Weights, mix: float) -> Weights:
    """Weights on the line between both: `mix` 0 gives the champion's, 1 the fine-tuned ones."""
    return [
        np.asarray(old + mix * (new - old), old.dtype)
        for old, new in zip(champion, tuned, strict=True)
    ]


def cross_entropy(logits: Floats, targets: Floats) -> npt.NDArray[np.float64]:
    """Cross entropy (n,) of answers against soft targets."""
    return np.asarray(-(targets * np.log(np.maximum(softmax(logits), 1e-12))).sum(axis=1))


def balanced_cross_entropy(logits: Floats, targets: Floats, labels: Ints) -> float:
    """Mean over the labels present of each label's mean cross entropy; 0 for no faces."""
    values = cross_entropy(logits, targets)
    present = np.unique(labels)
    return float(np.mean([values[labels == c].mean() for c in present])) if len(present) else 0.0
