"""Training on another of Keras' backends than the one that everything else here runs on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_a_training_learns_and_goes_on_under_jax(tmp_path: Path) -> None:
    """Averages of the weights once shared their arrays with them, which JAX gives away."""
    answer = subprocess.run(
        [sys.executable, "-m", "tests.learning.other_backend", str(tmp_path)],
        env=os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["backend"] == "jax"
    assert len(found["losses"]) == 4
    assert found["losses"][-1] < 0.9 * found["losses"][0]
