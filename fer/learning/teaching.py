"""Targets from a teacher: how likely each label is, given all that is known of a training face.

The labels of a data set are one person's glance, and often another person's would differ. A teacher
says how likely each label is: a multinomial logistic regression from what trained versions answer
to a face and its mirror image, and from the votes of annotators where there are any, to the labels
of the training faces. The network that learns from it never sees the votes.

Stacking: Wolpert, "Stacked Generalization", 1992. Learning from answers: Hinton, Vinyals and Dean,
"Distilling the Knowledge in a Neural Network", 2015. What only the teacher sees: Vapnik and
Vashist, "A New Learning Paradigm: Learning Using Privileged Information", 2009.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fer.errors import TrainingError
from fer.labels import LabelSet
from fer.learning.datasets import FaceArrays
from fer.learning.material import open_model
from fer.learning.replay import AT_ONCE
from fer.registry import Registry

Floats = npt.NDArray[np.float32]

#: Added to votes before their logarithm: a third of a vote of ten for each label.
LEAST_VOTE = 0.03


def checked_teachers(registry: Registry, teachers: Sequence[str], labels: LabelSet) -> None:
    """Refuse versions that cannot teach these labels, before anything is trained.

    Raises:
        UnknownModelError, ManifestError: a version cannot be read.
        TrainingError: it has other labels.
    """
    for version in teachers:
        if registry.manifest(version).labels != tuple(labels):
            raise TrainingError(f"{version} cannot teach: its labels are not those of the data.")


def teacher_answers(
    registry: Registry, version: str, faces: FaceArrays, say: Callable[[str], None] = print
) -> Floats:
    """A version's logits for faces, (n, classes), each the mean over the face and its mirror image.

    Raises:
        DamagedModelError: its file is not what its manifest promises.
        TrainingError: it takes crops of another size.
    """
    side = registry.manifest(version).crop_size
    if faces.crops.shape[1] != side:
        raise TrainingError(
            f"{version} cannot teach: it takes crops of {side} px, "
            f"and these faces have {faces.crops.shape[1]}."
        )
    say(f"Asking {version} about {len(faces)} training faces.")
    model = open_model(registry, version)
    turns = (faces.crops, faces.crops[:, :, ::-1])
    answers = [model.predict(crops, batch_size=AT_ONCE, verbose=0) for crops in turns]
    return np.asarray(sum(answers) / len(answers), np.float32)


def taught(
    labels: npt.NDArray[np.int64],
    classes: int,
    answers: Sequence[Floats],
    votes: Floats | None = None,
) -> Floats:
    """How likely each label is for each face, (n, classes), rows that sum to 1.

    Args:
        labels: positions in the label set, (n,).
        classes: labels in the set; one that no face has gets the probability 0.
        answers: logits (n, classes) of each version.
        votes: probabilities (n, classes), a row of zeros for a face without votes.

    Raises:
        TrainingError: there is nothing to learn from, or all faces have one label.
    """
    known = list(answers)
    if votes is not None:
        known += [votes, np.log(votes + LEAST_VOTE)]
    if not known or len(np.unique(labels)) < 2:
        raise TrainingError("A teacher needs a version or votes, and faces of two labels or more.")
    features = np.hstack(known)
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    regression.fit(features, labels)
    likely = np.zeros((len(labels), classes), np.float32)
    likely[:, regression[-1].classes_] = regression.predict_proba(features)
    return likely
