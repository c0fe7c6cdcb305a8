"""Helpers that tests of several rooms use."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from fer.manifest import Framing, Manifest
from fer.registry import LITERT_FILE, MANIFEST

SEVEN_LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")

_EPOCH = datetime(2025, 1, 1, tzinfo=UTC)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Until `condition()` holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def tiny_litert(weights: NDArray[np.float32], bias: NDArray[np.float32], crop_size: int) -> bytes:
    """A LiteRT model whose logits are `weights @ mean colour + bias`.

    It takes uint8 (n, crop_size, crop_size, 3) and averages each channel, in 0…255, over the
    crop; so an expected answer can be worked out by hand. Written as a flatbuffer, in a moment
    and without TensorFlow.

    Args:
        weights: (k, 3).
        bias: (k,).
    """
    labels = len(bias)
    axes = np.array([1, 2], np.int32)
    contents = [b"", axes.tobytes(), weights.astype("<f4").tobytes(), bias.astype("<f4").tobytes()]
    buffers = []
    for content in contents:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8) if content else None
        buffers.append(buffer)
    kind = schema.TensorType
    tensors = []
    for name, shape, element, buffer, dynamic in (
        ("crops", [1, crop_size, crop_size, 3], kind.UINT8, 0, True),
        ("numbers", [1, crop_size, crop_size, 3], kind.FLOAT32, 0, True),
        ("axes", [2], kind.INT32, 1, False),
        ("means", [1, 3], kind.FLOAT32, 0, True),
        ("weights", [labels, 3], kind.FLOAT32, 2, False),
        ("bias", [labels], kind.FLOAT32, 3, False),
        ("logits", [1, labels], kind.FLOAT32, 0, True),
    ):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, element, buffer
        tensor.shapeSignature = [-1, *shape[1:]] if dynamic else None
        tensors.append(tensor)
    cast, mean, dense = (schema.OperatorT() for _ in range(3))
    cast.opcodeIndex, cast.inputs, cast.outputs = 0, [0], [1]
    cast.builtinOptionsType = schema.BuiltinOptions.CastOptions
    cast.builtinOptions = schema.CastOptionsT()
    cast.builtinOptions.inDataType, cast.builtinOptions.outDataType = kind.UINT8, kind.FLOAT32
    mean.opcodeIndex, mean.inputs, mean.outputs = 1, [1, 2], [3]
    mean.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    mean.builtinOptions = schema.ReducerOptionsT()
    dense.opcodeIndex, dense.inputs, dense.outputs = 2, [3, 4, 5], [6]
    dense.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    dense.builtinOptions = schema.FullyConnectedOptionsT()
    codes = []
    builtin = schema.BuiltinOperator
    for operator in (builtin.CAST, builtin.MEAN, builtin.FULLY_CONNECTED):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = operator
        code.version = 1
        codes.append(code)
    graph = schema.SubGraphT()
    graph.name, graph.tensors, graph.operators = "main", tensors, [cast, mean, dense]
    graph.inputs, graph.outputs = [0], [6]
    model = schema.ModelT()
    model.version, model.buffers, model.operatorCodes, model.subgraphs = 3, buffers, codes, [graph]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def make_version(
    folder: Path,
    labels: Sequence[str] = SEVEN_LABELS,
    *,
    name: str = "tiny",
    number: int = 0,
    favourite: str | None = None,
    weights: NDArray[np.float32] | None = None,
    bias: NDArray[np.float32] | None = None,
    crop_size: int = 48,
    temperature: float = 1.0,
    framing: Framing | None = None,
    default: bool = False,
    extra_files: Mapping[str, bytes] | None = None,
    **manifest_fields: object,
) -> str:
    """Put a tiny version that really runs into a models folder, in milliseconds.

    Args:
        folder: the models folder; made if missing.
        labels: of the model.
        name: last part of the version's name.
        number: days by which the version is younger than the first; orders versions.
        favourite: the label that wins whatever the picture (by 3 in logits). Without it and
            without `weights`, the mean colour decides.
        weights, bias: of the last layer, as in `tiny_litert`; instead of `favourite`.
        default: whether the folder's `default` pointer shall name it.
        extra_files: further files of the version, by name.
        manifest_fields: any further fields of the manifest.

    Returns:
        The version's name.
    """
    names = tuple(labels)
    if weights is None:
        # Directions in colour space, evenly spread: small beside the favourite's lead of 3.
        turn = 2 * np.pi * np.arange(len(names)) / len(names)
        weights = np.stack([np.cos(turn), np.sin(turn), np.cos(2 * turn)], axis=1) / 255
    if bias is None:
        bias = np.array([3.0 if own == favourite else 0.0 for own in names])
    created = _EPOCH + timedelta(days=number)
    version = f"{created:%Y%m%dT%H%M%SZ}-{name}"
    files = {
        LITERT_FILE: tiny_litert(weights, bias, crop_size),
        **(extra_files or {}),
    }
    manifest = Manifest(
        version=version,
        name=name,
        created_at=created,
        architecture="tiny",
        labels=names,
        crop_size=crop_size,
        image_size=crop_size,
        temperature=temperature,
        framing=framing or Framing(),
        files={file: hashlib.sha256(content).hexdigest() for file, content in files.items()},
        **manifest_fields,
    )
    target = folder / version
    target.mkdir(parents=True)
    for file, content in files.items():
        (target / file).write_bytes(content)
    document = json.dumps(manifest.model_dump(mode="json"), indent=2)
    (target / MANIFEST).write_text(document, encoding="utf-8")
    if default:
        (folder / "default").write_text(version + "\n", encoding="utf-8")
    return version
