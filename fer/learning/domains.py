"""What is common among visitors and what among base faces: a bias for each label, behind a gate.

Visitors show other expressions more often than base faces do, and operators draw the line between
two labels elsewhere. One bias for each label says so, but laid on every face it costs the base as
much as it wins. The frozen part of a network tells both kinds of picture apart: means and spreads
of its channels hold a picture's style (light, sharpness, noise). So a challenger gets two small
layers more, a gate that says from these how likely a picture is a visitor's, 0…1, and a bias for
each label that the gate multiplies. On base faces the gate is closed, and nothing is forgotten.

Label shift: Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to New a
Priori Probabilities", 2002. Channel moments as style: Huang and Belongie, "Arbitrary Style Transfer
in Real-time with Adaptive Instance Normalization", 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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

GATE, BIASES = "domain_gate", "domain_biases"

#: Inverse strength of the gate's regularisation, on standardised moments. A stricter gate costs
#: the base less and lets fewer visitors pass: docs/learning.md has the figures.
GATE_STRENGTH = 0.1

#: Penalty on squared biases: only what no face speaks for is held by it.
BIAS_PENALTY = 1e-5


def with_domains(model: keras.Model, freeze_point: str) -> keras.Model:
    """The model with a closed gate above its freeze point: it answers what it answered before.

    A model that has the gate already comes back as it is, and so does one that is cut where there
    are no channels to take moments of (a flat activation).

    Args:
        model: a serving graph, crops to logits.
        freeze_point: name of the layer at which it is cut.
    """
    activation = model.get_layer(freeze_point).output
    if has_domains(model) or len(activation.shape) != 4:
        return model
    moments = keras.layers.Concatenate(name="domain_moments")(
        [keras.ops.mean(activation, axis=(1, 2)), keras.ops.std(activation, axis=(1, 2))]
    )
    logits = model.outputs[0]
    gate = keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros", name=GATE)(moments)
    biases = keras.layers.Dense(
        logits.shape[-1], use_bias=False, kernel_initializer="zeros", name=BIASES
    )(gate)
    answers = keras.layers.Add(name="domain_logits")([logits, biases])
    return keras.Model(model.inputs[0], answers, name=model.name)


def has_domains(model: keras.Model) -> bool:
    """Whether a model has the gate."""
    return any(layer.name == GATE for layer in model.layers)


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


def fit_biases(gates: Doubles, logits: Floats, targets: Floats, weights: Doubles) -> Floats:
    """Biases (1, k) under which `logits + gates * biases` come nearest to the targets.

    Args:
        gates: how far the gate is open for each face, (n,).
        logits: (n, k), without biases.
        targets: (n, k), rows that sum to 1.
        weights: of each face's cross entropy, (n,), that sum to 1.
    """

    def loss(biases: Doubles) -> tuple[float, Doubles]:
        likely = softmax(logits + gates[:, None] * biases)
        value = -(weights @ (targets * np.log(np.maximum(likely, 1e-12))).sum(axis=1))
        slope = (weights * gates) @ (likely - targets)
        return value + BIAS_PENALTY / 2 * biases @ biases, slope + BIAS_PENALTY * biases

    found = minimize(loss, np.zeros(logits.shape[1]), jac=True, method="L-BFGS-B")
    return np.asarray(found.x - found.x.mean(), np.float32)[None]


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
