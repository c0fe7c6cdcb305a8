"""One registered model as a pool of LiteRT interpreters."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from fer.errors import DamagedModelError
from fer.labels import LabelSet
from fer.manifest import Manifest
from fer.registry import LITERT_FILE, Registry
from fer.vision.images import Pixels

#: Crops read at once: bounds the memory of an interpreter, and of a picture full of faces.
_LARGEST_BATCH = 32


class Classifier:
    """Face crops → calibrated probabilities, safe to use from several threads.

    An interpreter must not be shared by threads, so each call borrows one from a pool of
    `threads`; with one thread inside each, since more stall beside other work.
    """

    def __init__(self, manifest: Manifest, model_file: Path, threads: int = 2) -> None:
        """Load a model file.

        Raises:
            DamagedModelError: the interpreter refuses it, or it does not take and give what the
                manifest says.
        """
        self.manifest = manifest
        self.labels: LabelSet = manifest.label_set
        self.version: str = manifest.version
        self._pool: queue.LifoQueue[_Interpreter] = queue.LifoQueue()
        content = model_file.read_bytes()
        for _ in range(threads):
            self._pool.put(_Interpreter(content, manifest))

    @classmethod
    def load(cls, registry: Registry, version: str, threads: int = 2) -> Classifier:
        """Load a registered version, its file verified against the manifest.

        Raises:
            UnknownModelError: no such version.
            ManifestError: its manifest cannot be used.
            DamagedModelError: its file is missing, altered, or refused by the interpreter.
        """
        path = registry.verified_file(version, LITERT_FILE)
        return cls(registry.manifest(version), path, threads)

    def probabilities(self, crops: Pixels) -> NDArray[np.float32]:
        """Calibrated probabilities of the labels, in the order of `labels`.

        Args:
            crops: uint8 (n, crop_size, crop_size, 3), RGB.

        Returns:
            float32 (n, len(labels)); each row sums to 1 and depends on its own crop alone.

        Raises:
            ValueError: crops of another shape or type.
        """
        side = self.manifest.crop_size
        if crops.dtype != np.uint8 or crops.shape[1:] != (side, side, 3) or crops.ndim != 4:
            raise ValueError(
                f"the model takes uint8 (n, {side}, {side}, 3), got {crops.dtype} {crops.shape}"
            )
        rows = [np.zeros((0, len(self.labels)), np.float32)]
        with self._borrowed() as interpreter:
            for start in range(0, len(crops), _LARGEST_BATCH):
                rows.append(interpreter.logits(crops[start : start + _LARGEST_BATCH]))
        return _softmax(np.concatenate(rows), self.manifest.temperature)

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[_Interpreter]:
        interpreter = self._pool.get()
        try:
            yield interpreter
        finally:
            self._pool.put(interpreter)


class _Interpreter:
    """One LiteRT interpreter, for one thread at a time."""

    def __init__(self, content: bytes, manifest: Manifest) -> None:
        self._manifest = manifest
        try:
            self._interpreter: Any = Interpreter(model_content=content, num_threads=1)
            self._input = self._interpreter.get_input_details()[0]["index"]
            self._output = self._interpreter.get_output_details()[0]["index"]
            self._batch = 0
            side = manifest.crop_size
            # A model that fails does so here, before it serves, and the first visitor does not
            # wait for memory to be laid out.
            logits = self.logits(np.zeros((1, side, side, 3), np.uint8))
        except (ValueError, RuntimeError, IndexError, TypeError, MemoryError) as error:
            raise DamagedModelError(
                f"Model {manifest.version}: {LITERT_FILE} cannot be run.", model=manifest.version
            ) from error
        if logits.shape != (1, len(manifest.labels)) or logits.dtype != np.float32:
            raise DamagedModelError(
                f"Model {manifest.version}: {LITERT_FILE} gives {logits.dtype} {logits.shape} "
                f"for {len(manifest.labels)} labels.",
                model=manifest.version,
            )

    def logits(self, crops: Pixels) -> NDArray[np.float32]:
        if len(crops) != self._batch:
            self._interpreter.resize_tensor_input(self._input, crops.shape, strict=False)
            self._interpreter.allocate_tensors()
            self._batch = len(crops)
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(crops))
        self._interpreter.invoke()
        result: NDArray[np.float32] = self._interpreter.get_tensor(self._output)
        return result


def _softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """softmax(logits / temperature) over the last axis, worked out in float64."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True)) if scaled.size else scaled
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)
