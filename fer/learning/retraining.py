"""Retraining: what the operators put right, into a challenger that must prove itself.

Reads as the procedure. Selection came before (`fer.learning.selection`); here follow the replay,
the fine-tuning with its cross-fit, the gate and the promotion. What is above the freeze point
learns, on new and replayed activations; what is below stays as it is.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer import __version__
from fer.collection.training_data import Reviews, update_run
from fer.errors import StorageError
from fer.learning import gate
from fer.learning.finetuning import Tuned, Tuner, averaged
from fer.learning.gate import Line
from fer.learning.job import Options, Outcome, Workplace
from fer.learning.judging import ask, calibrate, serving_lines, statistical_lines
from fer.learning.material import Material, gather, open_champion
from fer.learning.rehearsal import for_keeping, rehearse
from fer.learning.replay import Replay
from fer.learning.selection import Selection
from fer.learning.versions import VersionFolder
from fer.manifest import DataSource, Manifest
from fer.registry import REPLAY_FILE, Registry, new_version_name

Floats = npt.NDArray[np.float32]

#: Parts that the reviewed samples are cut into; each is answered by a fine-tuning on the others.
FOLDS = 5


def retrain(
    work: Workplace,
    run_id: int,
    reviews: Reviews,
    selection: Selection,
    options: Options,
) -> Outcome:
    """Fine-tune the champion, judge the challenger and promote it if it is better.

    Args:
        run_id: row of `training_runs` that says how it goes.
        selection: of `reviews`; it has enough to train on.

    Raises:
        RetrainingError, ModelError, StorageError, OSError: it cannot be done; nothing was changed.
    """
    started = time.monotonic()
    knobs = work.knobs
    step = Steps(work, run_id)

    champion = open_champion(work.registry)
    step.reached("champion")
    rehearsed = rehearse(work, champion)
    replay = rehearsed or champion.replay
    tuner = Tuner(champion.model, replay, knobs)
    material = gather(work, champion.manifest, tuner, selection, step.tell)
    step.reached("activations")

    crossed, fold_tunings = cross_fit(tuner, material, step)
    work.journal.say("Fine-tuning the challenger on all of them.")
    trained = material.faces.take(material.trainable)
    tuned = tuner.fit(trained, report=lambda done, all_: step.tell("fine-tune", done, all_))
    work.journal.say(f"The mix that is best on what was held back: {tuned.mix:.0%} fine-tuned.")
    if work.knobs.average_folds:
        tuned = together(tuned, fold_tunings)
    step.reached("tuned")

    answers = ask(tuner, material, crossed, tuned)
    lines = statistical_lines(
        champion.manifest,
        replay,
        material,
        answers,
        options,
        work.settings.gate_tolerance,
    )
    temperature, calibration = calibrate(replay, material, answers)
    tuner.become(tuned)

    name = free_version_name(work, champion.manifest.name)
    used = tuple(s.id for s, t in zip(material.samples, material.trainable, strict=True) if t)
    record: dict[str, Any] = {"challenger": name, "sample_ids": list(used), "last_event_id": None}
    if not options.dry_run:
        # Known before the first byte is written: whoever cleans up after a kill looks here.
        record["last_event_id"] = reviews.last_event_id
        update_run(work.database, run_id, **record)
        step.reached("named")
    with folder_for(work.registry, name, options.dry_run) as folder:
        draft = draft_of(champion.manifest, name, work, used, tuner, temperature)
        litert = folder.add_model(tuner.model)
        step.reached("written")
        lines += serving_lines(work.registry, champion.manifest, draft, litert, tuner, material)
        refused = gate.refusal(lines)
        metrics = figures(lines, calibration, selection, material, tuned, fold_tunings)
        for line in lines:
            mark = {True: "passed", False: "refused", None: "not judged"}[line.passed]
            work.journal.say(f"  {line.name}: {mark}. {line.sentence}")
        step.reached("judged")
        if not refused and not options.dry_run:
            kept = for_keeping(replay, champion.replay) if rehearsed else replay
            kept.save(folder.path / REPLAY_FILE)
            folder.add_json("metrics.json", metrics)
            folder.commit(**draft_fields(draft, metrics, replay))
            step.reached("committed")
    update_run(work.database, run_id, metrics=metrics, **record)
    step.reached("recorded")

    result = Outcome(
        "kept",
        f"The champion stays. {refused}",
        champion=champion.manifest.version,
        challenger=name,
        new_samples=selection.new,
        metrics=metrics,
    )
    if not refused and options.dry_run:
        result = replace(result, reason="Dry run: it passed every line and would be promoted.")
    elif not refused:
        work.registry.promote(name)
        step.reached("promoted")
        result = replace(result, outcome="promoted", reason=why_promoted(lines))
    return replace(result, seconds=round(time.monotonic() - started, 1))


class Steps:
    """Tells how far a run is, to people and in its row, and where a test may kill it."""

    def __init__(self, work: Workplace, run_id: int) -> None:
        self._work, self._run_id = work, run_id

    def tell(self, step: str, done: int, total: int) -> None:
        """Show progress; the console reads it from the run's row."""
        self._work.journal.progress(step, done, total)
        progress = {"progress": {"step": step, "done": done, "total": total}}
        try:
            update_run(self._work.database, self._run_id, metrics=progress)
        except StorageError as error:
            # A busy database must not end a run that can go on without telling.
            self._work.journal.say(f"Progress could not be noted: {error.message}")
        self.reached(f"{step} {done}")

    def reached(self, point: str) -> None:
        """A point at which a killed run leaves something else than before it."""
        self._work.reached(point)


def cross_fit(tuner: Tuner, material: Material, step: Steps) -> tuple[Floats, list[Tuned]]:
    """Answers (n, k) to each reviewed face by a fine-tuning that did not see its group."""
    faces = material.faces
    answers = tuner.logits(faces.activations[:, 0])
    folds = gate.folds_by_group(faces.groups, FOLDS, seed=tuner.knobs.seed)
    count = int(folds.max()) + 1 if len(folds) else 0
    tunings = []
    for fold in range(count):
        step.tell("cross-fit", fold, count)
        learned = faces.take(material.trainable & (folds != fold))
        if not len(learned):
            continue
        tuned = tuner.fit(learned, seed=fold + 1)
        answers[folds == fold] = tuner.logits(faces.activations[folds == fold, 0], tuned.weights)
        tunings.append(tuned)
    step.tell("cross-fit", count, count)
    return answers, tunings


def together(tuned: Tuned, fold_tunings: Sequence[Tuned]) -> Tuned:
    """The challenger's weights averaged with those of the cross-fit, which are there already.

    All six lie around one champion; their mean forgets less than each, and hangs less on which
    faces were held back. What the folds answered stays the judgement of one of them.
    """
    return replace(
        tuned, weights=averaged([tuned.weights, *(fold.weights for fold in fold_tunings)])
    )


def free_version_name(work: Workplace, name: str) -> str:
    """A version name that nothing has yet."""
    now = work.clock()
    while True:
        version = new_version_name(name, now)
        if not (work.registry.folder / version).exists():
            return version
        time.sleep(0.2)
        now = work.clock()


@contextmanager
def folder_for(registry: Registry, name: str, dry_run: bool) -> Iterator[VersionFolder]:
    """The version in the making; for a dry run one that lies elsewhere and goes afterwards."""
    if not dry_run:
        with VersionFolder(registry, name) as folder:
            yield folder
        return
    with (
        tempfile.TemporaryDirectory() as elsewhere,
        VersionFolder(Registry(Path(elsewhere)), name) as folder,
    ):
        yield folder


def draft_of(
    champion: Manifest,
    name: str,
    work: Workplace,
    used: Sequence[str],
    tuner: Tuner,
    temperature: float,
) -> Manifest:
    """The challenger's manifest, but for its figures and files."""
    reviewed = "faces reviewed by operators"
    sources = tuple(source for source in champion.data if source.name != reviewed)
    # What its forebears learned from is in its weights too.
    lineage = tuple(dict.fromkeys((*champion.samples_used, *used)))
    return champion.model_copy(
        update={
            "version": name,
            "parent": champion.version,
            "created_at": work.clock(),
            "temperature": temperature,
            "data": (*sources, DataSource(name=reviewed, pictures=len(lineage))),
            "parameters": tuner.model.count_params(),
            "settings": {"fine_tuning": asdict(tuner.knobs)},
            "seed": tuner.knobs.seed,
            "code_version": __version__,
            "samples_used": lineage,
        }
    )


def draft_fields(draft: Manifest, metrics: dict[str, Any], replay: Replay) -> dict[str, Any]:
    """What `VersionFolder.commit` takes."""
    fields = draft.model_dump(exclude={"version", "files", "metrics"})
    return fields | {"metrics": metrics, "freeze_point": replay.freeze_point}


def figures(
    lines: Sequence[Line],
    calibration: dict[str, float],
    selection: Selection,
    material: Material,
    tuned: Tuned,
    fold_tunings: Sequence[Tuned],
) -> dict[str, Any]:
    """What the verdict, the manifest and the run's row say in numbers."""
    by_name = {line.name: line.figures for line in lines}
    return {
        "collected": by_name["collected"],
        "audit": by_name["audit"],
        "base": by_name["base"],
        "calibration": calibration,
        "trained_on": int(material.trainable.sum()),
        "mix": tuned.mix,
        "curve": [round(value, 4) for value in tuned.curve],
        "fold_curves": [[round(v, 4) for v in fold.curve] for fold in fold_tunings],
        "lines": [line.as_dict() for line in lines],
        "notes": selection.notes(),
    }


def why_promoted(lines: Sequence[Line]) -> str:
    """The verdict on a challenger that passed."""
    first = next(line.sentence for line in lines if line.name == "collected")
    return f"The challenger is better, and worse nowhere that is judged. {first}"
