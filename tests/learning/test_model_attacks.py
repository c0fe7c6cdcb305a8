"""Attacks by a model's files: they are data, and nothing in them may run."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from fer.errors import DamagedModelError
from fer.learning.material import open_model
from fer.registry import KERAS_FILE, Registry
from tests.support import make_version


def with_code(folder: Path) -> tuple[bytes, Path]:
    """A `.keras` file whose layer writes a file when it is called, and that file's path."""
    witness, path = folder / "witness", folder / "hostile.keras"
    # Keras keeps a lambda's bytecode in the file: this is what would run.
    run = eval(f"lambda x: (open({str(witness)!r}, 'w').close(), x)[1]")
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(run)]).save(path)
    witness.unlink(missing_ok=True)
    return path.read_bytes(), witness


def test_code_in_a_keras_file_does_not_run(tmp_path: Path) -> None:
    """`safe_mode`: a lambda layer carries Python bytecode. The hash in the manifest is right."""
    hostile, witness = with_code(tmp_path)
    files = {KERAS_FILE: hostile}
    version = make_version(tmp_path / "models", default=True, extra_files=files)
    with pytest.raises(DamagedModelError, match="cannot be loaded"):
        open_model(Registry(tmp_path / "models"), version)
    assert not witness.exists()
    # It is a good attack: without safe mode the code runs.
    path = tmp_path / "hostile.keras"
    model = keras.saving.load_model(path, compile=False, safe_mode=False)
    model(keras.ops.zeros((1, 2)))
    assert witness.exists()


def test_an_altered_keras_file_is_not_even_opened(tmp_path: Path) -> None:
    """SHA-256 before use: the file is a whole one, but not the one that the manifest names."""
    hostile, witness = with_code(tmp_path)
    files = {KERAS_FILE: hostile + b" "}
    version = make_version(tmp_path / "models", default=True, extra_files=files)
    (tmp_path / "models" / version / KERAS_FILE).write_bytes(hostile)
    with pytest.raises(DamagedModelError) as refusal:
        open_model(Registry(tmp_path / "models"), version)
    assert "cannot be loaded" not in refusal.value.message
    assert not witness.exists()
