"""A Keras graph as a LiteRT file.

The converter is TensorFlow's. Under another backend it runs in a process of its own:
`python -m fer.learning.conversion model.keras model.tflite`.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras

from fer.errors import TrainingError


def convert(model: keras.Model) -> bytes:
    """The float LiteRT file of a serving graph: same input, same output, any batch size.

    Raises:
        TrainingError: the converter refuses the graph.
    """
    if keras.backend.backend() == "tensorflow":
        return _convert_here(model)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "model.keras"), Path(folder, "model.tflite")
        model.save(source)
        done = subprocess.run(
            [sys.executable, "-m", "fer.learning.conversion", str(source), str(target)],
            env=os.environ | {"KERAS_BACKEND": "tensorflow"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise TrainingError(f"TensorFlow could not convert the model: {done.stderr[-500:]}")
        return target.read_bytes()


def _convert_here(model: keras.Model) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    # The export prints the signature of every variable.
    with contextlib.redirect_stdout(io.StringIO()):
        return bytes(converter.convert())


if __name__ == "__main__":
    loaded = keras.saving.load_model(sys.argv[1], safe_mode=True, compile=False)
    Path(sys.argv[2]).write_bytes(_convert_here(loaded))
