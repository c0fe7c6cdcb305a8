"""A Keras graph as a LiteRT file, and as a smaller one that counts in 8-bit integers.

The converter is TensorFlow's. Under another backend it runs in a process of its own:
`python -m fer.learning.conversion model.keras model.tflite [crops.npy]`.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from fer.errors import TrainingError

Crops = npt.NDArray[np.uint8]

#: Crops by which the ranges of the integers are chosen.
CALIBRATION = 300


def convert(model: keras.Model) -> bytes:
    """The float LiteRT file of a serving graph: same input, same output, any batch size.

    Raises:
        TrainingError: the converter refuses the graph.
    """
    return _converted(model, None)


def convert_int8(model: keras.Model, crops: Crops, seed: int = 0) -> bytes:
    """The LiteRT file that counts in integers; input and output are those of the float file.

    Args:
        crops: of the training split, uint8 (n, crop_size, crop_size, 3); up to `CALIBRATION` of
            them, drawn with `seed`, show which range the numbers of each layer have.

    Raises:
        TrainingError: the converter refuses the graph.
    """
    rows = np.random.default_rng(seed).permutation(len(crops))[:CALIBRATION]
    return _converted(model, crops[np.sort(rows)])


def _converted(model: keras.Model, calibration: Crops | None) -> bytes:
    if keras.backend.backend() == "tensorflow":
        return _convert_here(model, calibration)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "model.keras"), Path(folder, "model.tflite")
        model.save(source)
        command = [sys.executable, "-m", "fer.learning.conversion", str(source), str(target)]
        if calibration is not None:
            np.save(Path(folder, "crops.npy"), calibration)
            command.append(str(Path(folder, "crops.npy")))
        done = subprocess.run(
            command,
            env=os.environ | {"KERAS_BACKEND": "tensorflow"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise TrainingError(f"TensorFlow could not convert the model: {done.stderr[-500:]}")
        return target.read_bytes()


def _convert_here(model: keras.Model, calibration: Crops | None) -> bytes:
    import tensorflow as tf
    from tensorflow.lite.python.convert_phase import ConverterError

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if calibration is not None:
        given: Crops = calibration

        def one_at_a_time() -> Iterator[list[Any]]:
            for crop in given:
                yield [crop[None]]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = one_at_a_time
    # The export prints the signature of every variable.
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return bytes(converter.convert())
        except (ConverterError, ValueError, RuntimeError) as error:
            raise TrainingError(f"TensorFlow could not convert the model: {error}") from error


if __name__ == "__main__":
    loaded = keras.saving.load_model(sys.argv[1], safe_mode=True, compile=False)
    crops = np.load(sys.argv[3], allow_pickle=False) if len(sys.argv) > 3 else None
    Path(sys.argv[2]).write_bytes(_convert_here(loaded, crops))
