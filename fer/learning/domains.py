"""What visitors' faces are called, and what base faces: a small correction behind a gate.

Visitors show other expressions more often than base faces do, and operators draw the line between
two labels elsewhere. One bias for each label says so, but laid on every face it costs the base as
much as it wins. The frozen part of a network tells both kinds of picture apart: means and spreads
of its channels hold a picture's style (light, sharpness, noise). So a challenger gets three small
layers more: a gate that says from these how likely a picture is a visitor's, 0…1, and, multiplied
by it, a bias for each label and a matrix on the logarithms of the probabilities, for what is taken
for what. On base faces the gate is closed, and nothing is forgotten. The matrix is held the harder
the more often the champion is right: where it reads most faces, biases are all there is to learn.

Label shift: Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to New a
Priori Probabilities", 2002. The matrix: Kull et al., "Beyond Temperature Scaling: Obtaining
Well-calibrated Multiclass Probabilities with Dirichlet Calibration", 2019. Channel moments as
style: Huang and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance
Normalization", 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from fer.learning.evaluation import softmax
from fer.learning.replay import Halves

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Weights = list[npt.NDArray[np.float32]]

GATE, BIASES, MATRIX = "domain_gate", "domain_biases", "domain_matrix"

#: Those that are fitted, not stepped.
FITTED = (GATE, BIASES, MATRIX)

#: Inverse strength of the gate's regularisation, on standardised moments. A stricter gate costs
#: the base less and lets fewer visitors pass: docs/learning_trials.md has the figures.
GATE_STRENGTH = 0.1

#: Penalty on squared biases: only what no face speaks for is held by it.
BIAS_PENALTY = 1e-5

#: Penalty on the squared matrix, times faces, of a champion that is right about every second one.
#: docs/learning_trials.md has the figures.
MATRIX_PENALTY = 140.0

#: Added to a probability before its logarithm is taken: below it none is told from another.
_LEAST = 1e-3


def with_domains(model: keras.Model, freeze_point: str) -> keras.Model:
    """The model with a closed gate above its freeze point: it answers what it answered before.

    A model that has all of it already comes back as it is, and so does one that is cut where there
    are no channels to take moments of (a flat activation). One that has a gate and biases alone,
    as earlier releases made them, gets the matrix.

    Args:
        model: a serving graph, crops to logits.
        freeze_point: name of the layer at which it is cut.
    """
    activation = model.get_layer(freeze_point).output
    if len(activation.shape) != 4 or _has(model, MATRIX):
        return model
    logits = model.get_layer("logits").output
    if has_domains(model):
        gate, biases = (model.get_layer(name).output for name in (GATE, BIASES))
    else:
        moments = keras.layers.Concatenate(name="domain_moments")(
            [keras.ops.mean(activation, axis=(1, 2)), keras.ops.std(activation, axis=(1, 2))]
        )
        gate = keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros", name=GATE)(moments)
        biases = _correction(logits, BIASES)(gate)
    likely = keras.ops.log(keras.ops.softmax(logits) + _LEAST)
    shifted = keras.layers.Multiply(name="domain_shift")(
        [gate, _correction(logits, MATRIX)(likely)]
    )
    answers = keras.layers.Add(name="domain_logits")([logits, biases, shifted])
    return keras.Model(model.inputs[0], answers, name=model.name)


def _correction(logits: Any, name: str) -> keras.layers.Layer:
    return keras.layers.Dense(
        logits.shape[-1], use_bias=False, kernel_initializer="zeros", name=name
    )


def _has(model: keras.Model, layer: str) -> bool:
    return any(each.name == layer for each in model.layers)


def has_domains(model: keras.Model) -> bool:
    """Whether a model has the gate."""
    return _has(model, GATE)


def moments_of(activations: Halves) -> Floats:
    """What the gate sees of activations (n, h, w, c): means and spreads of channels, (n, 2 c)."""
    moments = [
        np.concatenate([each.mean(axis=(0, 1)), each.std(axis=(0, 1))])
        for each in (one.astype(np.float32) for one in activations)
    ]
    return np.array(moments, np.float32)


def fit_gate(new: Floats, base: Floats) -> tuple[Floats, Floats]:
    """Kernel (d, 1) and bias (1,) of a gate that tells new pictures from base faces.

    A logistic regression that counts both kinds alike, however many there are of each.

    Args:
        new, base: moments (n, d) and (m, d), at least one row each.
    """
    mean, spread = base.mean(axis=0, dtype=np.float64), base.std(axis=0, dtype=np.float64) + 1e-6
    moments = (np.concatenate([new, base]) - mean) / spread
    regression = LogisticRegression(C=GATE_STRENGTH, class_weight="balanced", max_iter=500)
    regression.fit(moments, np.arange(len(moments)) < len(new))
    kernel = regression.coef_[0] / spread
    bias = regression.intercept_[0] - kernel @ mean
    return kernel.astype(np.float32)[:, None], np.array([bias], np.float32)


def opened(moments: Floats, kernel: Floats, bias: Floats) -> Doubles:
    """How far a gate is open for each row of moments, (n,), 0…1."""
    return np.asarray(expit(moments.astype(np.float64) @ kernel[:, 0] + bias[0]))


def matrix_penalty(right: float, faces: int) -> float:
    """Penalty on the squared matrix.

    Args:
        right: share of new faces that the champion reads as operators do, 0…1. The fourth power of
            its odds lets a champion that reads two thirds hardly have a matrix, and one that reads
            a third a free one; below that nothing is gained by more freedom.
        faces: how many new ones there are.
    """
    odds = max(0.5, right / max(1 - right, 0.05))
    return MATRIX_PENALTY * odds**4 / faces


def fit_correction(
    gates: Doubles, logits: Floats, targets: Floats, weights: Doubles, penalty: float
) -> tuple[Floats, Floats]:
    """Matrix (k, k) and biases (1, k) under which corrected logits come nearest to the targets.

    Corrected are `logits + gates * (log_likely(logits) @ matrix + biases)`.

    Args:
        gates: how far the gate is open for each face, (n,).
        logits: (n, k), uncorrected.
        targets: (n, k), rows that sum to 1.
        weights: of each face's cross entropy, (n,), that sum to 1.
        penalty: on the squared matrix, see `matrix_penalty`.
    """
    count = logits.shape[1]
    likely = log_likely(logits)

    def loss(values: Doubles) -> tuple[float, Doubles]:
        biases, matrix = values[:count], values[count:].reshape(count, count)
        answers = softmax(logits + gates[:, None] * (biases + likely @ matrix))
        value = -(weights @ (targets * np.log(np.maximum(answers, 1e-12))).sum(axis=1))
        value += BIAS_PENALTY / 2 * biases @ biases + penalty / 2 * (matrix**2).sum()
        slope = (weights * gates)[:, None] * (answers - targets)
        along_matrix = likely.T @ slope + penalty * matrix
        along_biases = slope.sum(axis=0) + BIAS_PENALTY * biases
        return value, np.concatenate([along_biases, along_matrix.ravel()])

    start = np.zeros(count * (1 + count))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    biases, matrix = found[None, :count], found[count:].reshape(count, count)
    # What is added to all labels alike changes no answer.
    return (
        np.asarray(matrix - matrix.mean(axis=1, keepdims=True), np.float32),
        np.asarray(biases - biases.mean(), np.float32),
    )


def log_likely(logits: Floats) -> Doubles:
    """What the matrix sees of logits (n, k): logarithms of their probabilities."""
    return np.asarray(np.log(softmax(logits) + _LEAST))


def share_biases(
    before: Floats, after: Floats, chance: npt.NDArray[np.float64], rounds: int = 50
) -> npt.NDArray[np.float64]:
    """Biases (k,) under which each label has the mean probability `after` that it had `before`.

    Args:
        before, after: logits (n, k) of the same faces.
        chance: weight of each face, (n,).

    The step is that of Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to
    New a Priori Probabilities", 2002, repeated until the shares agree.
    """
    weights = chance / chance.sum()
    wanted = np.maximum(weights @ softmax(before), 1e-12)
    biases = np.zeros(before.shape[1])
    for _ in range(rounds):
        biases += np.log(wanted / np.maximum(weights @ softmax(after + biases), 1e-12))
    return np.asarray(biases - biases.mean())


def layer_weights(model: keras.Model, weights: Weights, layer: str) -> Weights:
    """Those of `weights`, in the order of `get_weights`, that belong to a layer."""
    return [weights[place] for place in _places(model, layer)]


def with_layers(
    model: keras.Model, weights: Weights, layers: Mapping[str, Sequence[Floats] | None]
) -> Weights:
    """`weights` with those of some layers replaced; by zeros where None is given."""
    changed = list(weights)
    for name, values in layers.items():
        for index, place in enumerate(_places(model, name)):
            changed[place] = np.zeros_like(weights[place]) if values is None else values[index]
    return changed


def _places(model: keras.Model, layer: str) -> list[int]:
    own = {id(variable) for variable in model.get_layer(layer).weights}
    return [place for place, variable in enumerate(model.weights) if id(variable) in own]
