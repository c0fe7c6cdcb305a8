"""How often does the gate promote? Simulated visitors, a champion and a challenger of known worth.

Each simulated run draws reviewed faces, an audit slice and a base hold-out, asks the gate's own
functions, and counts promotions. A visitor's faces resemble each other: a share of the luck of
being right is the visitor's, not the face's.

    python benchmarks/gate_simulation.py [--runs 1000] [--json]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import norm

from fer.labels import LabelSet
from fer.learning import gate

LABELS = LabelSet(["angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"])

#: How often each label comes to a review queue that shows the uncertain ones first.
SHARES = np.array([0.12, 0.02, 0.04, 0.30, 0.30, 0.07, 0.15])


@dataclass(frozen=True)
class Scene:
    """What is true in a simulated world.

    Attributes:
        faces: reviewed faces outside the audit slice; a quarter as many are in it.
        gain: true gain of the challenger's accuracy on visitors' faces.
        accuracy: the champion's there.
        forgets: true loss on the base, where the champion is right in 80 %.
        base: faces of the base hold-out.
        together: how much both models' luck on a face has in common, 0…1.
        visitor: how much of it is the visitor's, 0…1.
        per_visitor: largest number of faces that one visitor brings.
        alpha, tolerance: of the gate.
    """

    faces: int
    gain: float
    accuracy: float = 0.55
    forgets: float = 0.0
    base: int = 1500
    together: float = 0.7
    visitor: float = 0.3
    per_visitor: int = 5
    alpha: float = 0.05
    tolerance: float = 0.01


def promoted(scene: Scene, rng: np.random.Generator) -> bool:
    """Whether the gate promotes the challenger in one simulated run."""
    labels, groups, right = visitors(scene, scene.faces, rng)
    audit_labels, audit_groups, audited = visitors(scene, scene.faces // 4, rng)
    base_labels = rng.choice(len(LABELS), scene.base, p=SHARES)
    nobody = np.arange(scene.base)
    base = luck(scene, nobody, 0.8, 0.8 - scene.forgets, 0.97, rng)
    lines = [
        gate.collected_line(
            labels, right[0], right[1], groups, classes=len(LABELS), alpha=scene.alpha
        ),
        gate.audit_line(audited[0], audited[1], audit_groups, alpha=scene.alpha),
        gate.base_line(base[0], base[1], tolerance=scene.tolerance),
        gate.recall_line(
            LABELS,
            np.concatenate([base_labels, audit_labels]),
            np.concatenate([base[0], audited[0]]),
            np.concatenate([base[1], audited[1]]),
        ),
    ]
    return not gate.refusal(lines)


def visitors(
    scene: Scene, faces: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Labels, groups and both models' right answers on visitors' faces."""
    sizes = rng.integers(1, scene.per_visitor + 1, faces)
    groups = np.repeat(np.arange(faces), sizes)[:faces]
    labels = rng.choice(len(LABELS), faces, p=SHARES)
    after = scene.accuracy + scene.gain
    return labels, groups, luck(scene, groups, scene.accuracy, after, scene.together, rng)


def luck(
    scene: Scene,
    groups: np.ndarray,
    before: float,
    after: float,
    together: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Right answers of both models, correlated with each other and within groups."""
    n = len(groups)
    common = rng.normal(size=n)
    answers = []
    for accuracy in (before, after):
        visitor = rng.normal(size=int(groups.max()) + 1 if n else 0)[groups]
        own = np.sqrt(scene.visitor) * visitor + np.sqrt(1 - scene.visitor) * rng.normal(size=n)
        total = np.sqrt(together) * common + np.sqrt(1 - together) * own
        answers.append(total < norm.ppf(accuracy))
    return answers[0], answers[1]


def promotion_rates(scene: Scene, runs: int, seed: int = 0) -> float:
    """Share of simulated runs that end in a promotion."""
    rng = np.random.default_rng(seed)
    return float(np.mean([promoted(scene, rng) for _ in range(runs)]))


def main() -> None:
    """Print the table of `docs/learning.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sizes = (40, 80, 160, 320, 640)
    gains = (-0.05, 0.0, 0.03, 0.05, 0.08, 0.12)
    rows = []
    for gain in gains:
        for faces in sizes:
            scene = Scene(faces, gain)
            rows.append(asdict(scene) | {"promoted": promotion_rates(scene, arguments.runs)})
    if arguments.json:
        print(json.dumps(rows))
        return
    print("| true gain | " + " | ".join(f"{faces} faces" for faces in sizes) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    for gain in gains:
        cells = [f"{row['promoted']:.1%}" for row in rows if row["gain"] == gain]
        print(f"| {gain:+.0%} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
