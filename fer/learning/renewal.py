"""A new `replay.npz` for a version that is there already, from the data that it was trained on.

Where a network is cut may change from one release to the next. The weights, and so the answers,
stay as they are; only what retraining rehearses on is made again.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import fields

from fer.errors import DataError, ManifestError
from fer.learning.material import open_model
from fer.learning.recipe import Recipe
from fer.learning.replay import make_replay
from fer.learning.runfolder import Request
from fer.learning.runs import load_splits
from fer.learning.versions import rewrite_files
from fer.manifest import Manifest
from fer.registry import REPLAY_FILE, Registry


def renew_replay(
    registry: Registry,
    version: str,
    request: Request,
    say: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """Write a version's `replay.npz` again, and its manifest with the new freeze point.

    Args:
        request: data, votes, classes and shares that the version was trained with. What its test
            share kept back was not trained on either: with 0 it is in the base hold-out too.

    Raises:
        ManifestError: the version was not made by `fer train`.
        DataError: the data cannot be used, or are not what the version was trained on.
    """
    manifest = registry.manifest(version)
    names = {field.name for field in fields(Recipe)}
    # A knob that is younger than the version has its default.
    known = {name: value for name, value in manifest.settings.items() if name in names}
    if "architecture" not in known:
        raise ManifestError(f"{version} was not made by `fer train`: its replay is its parent's.")
    recipe = Recipe(**known)
    splits, _ = load_splits(request, recipe, say)
    # A face that it was trained on must not come into the hold-out that measures forgetting.
    trained_on = [(source.sha256, source.pictures) for source in manifest.data if source.sha256]
    given = (splits.dataset.sha256(), len(splits.train))
    if splits.dataset.labels.names != manifest.labels or given not in trained_on:
        raise DataError(
            f"{request.data} is not what {version} was trained on, or not with these labels and "
            "shares."
        )
    held = splits.validation
    replay = make_replay(
        open_model(registry, version),
        manifest.architecture,
        (splits.train.crops, splits.targets(splits.train, recipe)),
        (held.crops, splits.targets(held, recipe), splits.accepted(held)),
        seed=recipe.seed,
    )
    buffer = io.BytesIO()
    replay.save(buffer)
    contents = {REPLAY_FILE: buffer.getvalue()}
    return rewrite_files(registry, manifest, contents, freeze_point=replay.freeze_point)
