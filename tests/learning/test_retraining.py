"""Whole retrainings of a small champion on drawn faces: better, poisoned, broken, killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from filelock import FileLock

import retrain
from fer.collection.runs import new_decisions
from fer.collection.tables import TrainingRun
from fer.learning.job import LOCK_FILE, Options, Outcome
from fer.registry import KERAS_FILE, LITERT_FILE, REPLAY_FILE, UNFINISHED
from tests.learning.small import LABELS, VERSION, World, digest, faces, train_champion

ROOT = Path(__file__).parent.parent.parent

MakeWorld = Callable[..., World]


@pytest.fixture(scope="session")
def champion_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a trained champion, made once for all workers."""
    shared = tmp_path_factory.getbasetemp().parent / "drawn-champion"
    with FileLock(f"{shared}.lock"):
        if not (shared / "default").exists():
            train_champion(shared)
    return shared


@pytest.fixture
def make_world(champion_models: Path, tmp_path: Path) -> MakeWorld:
    """Makes an installation with a champion of its own."""

    def make(name: str = "w", **settings: object) -> World:
        models = tmp_path / name / "models"
        shutil.copytree(champion_models, models)
        return World.at(tmp_path / name / "data", models, **settings)

    return make


def run(world: World, options: Options | None = None, **more: object) -> Outcome:
    return retrain.run_once(world.workplace(**more), options or Options(min_new=20))


def runs(world: World) -> list[TrainingRun]:
    with world.database.session() as session:
        return list(session.scalars(sa.select(TrainingRun).order_by(TrainingRun.id)))


def undone(world: World) -> int:
    """Decisions that the next run finds new."""
    with world.database.session() as session:
        return new_decisions(session)


def test_corrections_make_a_better_champion(make_world: MakeWorld) -> None:
    world = make_world()
    ids = world.collect(120)
    audited = {i for i in ids if world.store.get(i).audit}
    points: list[str] = []
    outcome = run(world, reached=points.append)
    assert outcome.outcome == "promoted", outcome.reason
    assert outcome.champion == VERSION
    assert world.registry.champion() == outcome.challenger
    assert outcome.new_samples == 120 - len(audited)
    collected = outcome.metrics["collected"]
    assert set(collected) >= {"champion", "challenger", "n", "p_value"}
    assert collected["challenger"] > collected["champion"]
    assert collected["p_value"] < 0.05
    assert outcome.metrics["base"]["n"] == 400
    assert outcome.metrics["audit"]["n"] == len(audited)

    manifest = world.registry.manifest(str(outcome.challenger))
    assert manifest.parent == VERSION
    assert manifest.labels == LABELS
    assert set(manifest.samples_used) == set(ids) - audited
    assert {KERAS_FILE, LITERT_FILE, REPLAY_FILE, "metrics.json"} <= set(manifest.files)
    world.registry.verify(str(outcome.challenger))

    (row,) = runs(world)
    assert (row.outcome, row.challenger) == ("promoted", outcome.challenger)
    assert set(row.sample_ids or ()) == set(manifest.samples_used)
    assert row.metrics is not None
    assert len(row.metrics["fold_curves"]) == 5
    assert row.ended_at is not None
    assert undone(world) == 0
    # In this order: whoever is killed in between leaves a champion that serves.
    order = [points.index(p) for p in ("named", "written", "committed", "recorded", "promoted")]
    assert order == sorted(order)

    again = run(world)
    assert again.outcome == "skipped"
    assert "0 since the last retraining, 20 are needed" in again.reason

    forced = run(world, Options(min_new=20, force=True))
    assert forced.outcome == "kept", "all faces were learned from: nothing new speaks for it"
    assert "has not learned from: 0" in forced.reason
    assert world.registry.champion() == outcome.challenger


def test_shuffled_labels_are_refused(make_world: MakeWorld) -> None:
    world = make_world()
    true = np.array([LABELS[i % len(LABELS)] for i in range(120)])
    wrong = np.random.default_rng(1).permutation(true)
    world.collect(120, wrong=list(wrong))
    before = digest(world.registry.folder)
    outcome = run(world)
    assert outcome.outcome == "kept"
    refused = {line["name"] for line in outcome.metrics["lines"] if line["passed"] is False}
    assert "collected" in refused
    assert "four times in five" in outcome.reason, "the verdict says what it could have seen"
    assert digest(world.registry.folder) == before


def test_swapped_labels_are_refused_by_the_base_hold_out(make_world: MakeWorld) -> None:
    world = make_world()
    swap = {"happy": "sad", "sad": "happy"}
    true = [LABELS[i % len(LABELS)] for i in range(160)]
    # On pictures like the base's: learning this means unlearning that.
    world.collect(160, wrong=[swap.get(label, label) for label in true], visitor=False)
    before = digest(world.registry.folder)
    outcome = run(world)
    assert outcome.outcome == "kept"
    lines = {line["name"]: line for line in outcome.metrics["lines"]}
    # The base hold-out tells what the champion knows, and the decisions turn it upside down.
    assert lines["contradiction"]["passed"] is False
    assert "of the base hold-out" in outcome.reason
    assert "these labels look swapped" in outcome.reason
    assert digest(world.registry.folder) == before


def test_a_dry_run_writes_nothing(make_world: MakeWorld) -> None:
    world = make_world()
    world.collect(120)
    before = digest(world.registry.folder)
    outcome = run(world, Options(min_new=20, dry_run=True))
    assert outcome.outcome == "kept"
    assert outcome.reason.startswith("Dry run")
    assert digest(world.registry.folder) == before
    assert undone(world) == outcome.new_samples, "a dry run uses nothing up"


def test_too_few_decisions_are_no_run(make_world: MakeWorld) -> None:
    world = make_world(audit_share=0.0)
    world.collect(19)
    outcome = run(world)
    assert (outcome.outcome, outcome.exit_code) == ("skipped", 0)
    assert outcome.new_samples == 19
    assert runs(world) == []


def test_a_second_retraining_is_turned_away(make_world: MakeWorld) -> None:
    world = make_world()
    with FileLock(world.settings.data_dir / LOCK_FILE):
        outcome = run(world)
    assert (outcome.outcome, outcome.reason) == ("skipped", "Another retraining is running.")


@pytest.mark.parametrize("fault", ["picture gone", "replay", "keras", "no replay", "no champion"])
def test_what_is_broken_is_named_and_noted(make_world: MakeWorld, fault: str) -> None:
    world = make_world(audit_share=0.0)
    ids = world.collect(40)
    folder = world.registry.folder / VERSION
    if fault == "picture gone":
        world.store.storage.delete(str(world.store.get(ids[7]).path))
        expected = f"The picture of sample {ids[7]} is missing"
    elif fault == "replay":
        (folder / REPLAY_FILE).write_bytes(b"no replay")
        expected = "differs from what its manifest promises"
    elif fault == "keras":
        (folder / KERAS_FILE).unlink()
        expected = "lacks its file model.keras"
    elif fault == "no replay":
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["files"][REPLAY_FILE]
        (folder / "manifest.json").write_text(json.dumps(manifest))
        expected = "has no replay.npz"
    else:
        (world.registry.folder / "default").unlink()
        expected = "There is no model yet"
    before = digest(world.registry.folder)
    outcome = run(world)
    assert (outcome.outcome, outcome.exit_code) == ("failed", 1)
    assert expected in outcome.reason
    assert digest(world.registry.folder) == before
    if fault != "no champion":
        assert [row.outcome for row in runs(world)] == ["failed"]
        assert runs(world)[0].reason == outcome.reason
    assert undone(world) == 40, "what failed has used nothing up"


def test_a_full_disk_fails_and_leaves_the_champion(make_world: MakeWorld) -> None:
    world = make_world()
    world.collect(60)
    before = digest(world.registry.folder)

    def reached(point: str) -> None:
        if point == "judged":
            raise OSError(28, "No space left on device")

    outcome = run(world, reached=reached)
    assert outcome.outcome == "failed"
    assert outcome.reason == "The disk refused: No space left on device."
    assert digest(world.registry.folder) == before
    assert [row.outcome for row in runs(world)] == ["failed"]


def test_a_forgotten_face_is_in_no_later_run(make_world: MakeWorld) -> None:
    world = make_world(audit_share=0.0)
    ids = world.collect(60)
    world.store.delete(ids[:4])
    outcome = run(world)
    (row,) = runs(world)
    assert set(row.sample_ids or ()) == set(ids[4:])
    assert outcome.new_samples == 56


# Killed

#: Where a killed run leaves something else behind than at the point before.
POINTS = ["begun", "activations", "cross-fit 3", "tuned", "named", "written", "judged"]
POINTS += ["committed", "recorded", "promoted", "finished"]
QUICK = ["cross-fit 3", "written", "committed", "promoted"]


@pytest.mark.parametrize(
    "point", [pytest.param(p, marks=[] if p in QUICK else pytest.mark.long) for p in POINTS]
)
def test_killed_at_any_moment_nothing_is_lost(make_world: MakeWorld, point: str) -> None:
    world = make_world()
    ids = world.collect(60)
    killed = subprocess.run(
        [
            *(sys.executable, "-m", "tests.learning.killed_run"),
            *(str(world.settings.data_dir), str(world.registry.folder), point),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert killed.returncode == -9, killed.stdout + killed.stderr

    # Whole, right after: the champion serves, the pictures are there, no decision is lost.
    champion = world.registry.champion()
    world.registry.verify(champion)
    was_promoted = point in ("promoted", "finished")
    assert (champion != VERSION) == was_promoted
    for version in world.registry.versions():
        world.registry.verify(version)
    assert all(world.store.get(i).final_label for i in ids)

    # The next run cleans up and comes to its own end.
    outcome = run(world, Options(min_new=1))
    assert outcome.outcome == ("skipped" if was_promoted else "promoted"), outcome.reason
    assert not list(world.registry.folder.glob(f"{UNFINISHED}*"))
    served = {VERSION, world.registry.champion()}
    assert set(world.registry.versions()) == served
    first = runs(world)[0]
    assert first.outcome == ("promoted" if was_promoted else "failed")
    assert all(row.outcome for row in runs(world))


def test_the_command_ends_with_one_line_of_json(make_world: MakeWorld) -> None:
    world = make_world(audit_share=0.0)
    world.collect(10)
    for arguments, expected in (([], 0), (["--json"], 0), (["--min-new", "-1"], 2)):
        done = subprocess.run(
            [sys.executable, "retrain.py", *arguments],
            cwd=ROOT,
            env=world.environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expected, done.stderr
        if expected == 0:
            last = json.loads(done.stdout.splitlines()[-1])
            assert last["outcome"] == "skipped"
            assert set(last) == {
                "outcome",
                "reason",
                "champion",
                "challenger",
                "new_samples",
                "metrics",
                "seconds",
            }
            assert len(done.stdout.splitlines()) == (1 if arguments else 2)


def test_visitors_faces_are_hard_for_the_champion(champion_models: Path) -> None:
    """The other tests mean something only if there is something to learn."""
    from fer.registry import Registry
    from fer.vision.classifier import Classifier

    classifier = Classifier.load(Registry(champion_models), VERSION)
    base, labels = faces(120, seed=11)
    assert (classifier.probabilities(base).argmax(axis=1) == labels).mean() > 0.95
    foreign, labels = faces(120, seed=11, visitor=True)
    assert (classifier.probabilities(foreign).argmax(axis=1) == labels).mean() < 0.9
