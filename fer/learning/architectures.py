"""The networks that can be trained, each from 8-bit RGB crops to logits.

Preprocessing is part of each graph, so that it exists once: whatever serves or fine-tunes a model
hands it raw crops. A graph is three parts in a row:

1. input: uint8 (n, crop, crop, 3) to float (n, image, image, 3) in 0…255, grey if asked;
2. backbone: the architecture's own scaling of pixels, then its convolutions;
3. head: pooling, dropout, dense layer of one logit for each label.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from fer.errors import TrainingError
from fer.learning.recipe import ARCHITECTURES

#: Layers after which retraining may begin, the earliest first: what lies below stays frozen. Which
#: one is taken depends on the size of its output, since replay stores it for thousands of faces.
FREEZE_POINTS = {
    # In half precision 2 KB a face for a 64 px image and 4.6 KB for a 96 px one, which is as much
    # as fits; after block 13 it is 1.3 and 2.9 KB, and 5.1 KB for a 128 px one.
    "mobilenet_v2": ("block_9_add", "block_13_project_BN", "pool"),
    "mobilenet": ("conv_pw_12_relu", "pool"),
    "resnet50": ("conv5_block1_out", "pool"),
    "vgg16": ("block5_pool", "pool"),
    "vgg19": ("block5_pool", "pool"),
    "cnn": ("dense",),
}

_APPLICATIONS = {
    "mobilenet_v2": "MobileNetV2",
    "mobilenet": "MobileNet",
    "resnet50": "ResNet50",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
}

#: Mean blue, green, red of ImageNet, which these networks subtract (Caffe's convention).
_CAFFE_MEANS = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class Network:
    """What is needed to build one network.

    Attributes:
        architecture: one of `ARCHITECTURES`.
        classes: number of labels, the length of the logits.
        crop_size: side of the crops that go in, in pixels.
        image_size: side that the backbone sees, in pixels.
        grey: whether colours are dropped first, for training data without any.
        dropout: share of the pooled features that is dropped while training, 0…1.
    """

    architecture: str
    classes: int
    crop_size: int
    image_size: int
    grey: bool = True
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise TrainingError(
                f"There is no architecture {self.architecture!r}; "
                f"choose one of {', '.join(ARCHITECTURES)}."
            )
        if self.architecture != "cnn" and self.image_size < 32:
            raise TrainingError(f"{self.architecture} needs an image size of at least 32 pixels.")


def build(network: Network, weights: str | Path | None = None) -> keras.Model:
    """Make the serving graph: uint8 (n, crop, crop, 3) in, float32 logits (n, classes) out.

    Args:
        weights: "imagenet" (fetched by Keras), a Keras weights file of the backbone without its
            top, or None for random ones.

    Raises:
        TrainingError: the weights cannot be fetched or do not fit.
    """
    inputs = keras.Input((network.crop_size, network.crop_size, 3), dtype="uint8", name="crop")
    pixels = to_pixels(inputs, network)
    outputs = _logits(pixels, network, weights)
    return keras.Model(inputs, outputs, name=network.architecture)


def build_core(
    network: Network, weights: str | Path | None = None, *, any_size: bool = False
) -> keras.Model:
    """The same layers from float pixels (n, h, w, 3) in 0…255, for training.

    It shares its order of weights with `build`, so that `get_weights` of one fits the other.

    Args:
        any_size: take other sizes than `image_size` too, for a training that begins with small
            pictures.

    Raises:
        TrainingError: as for `build`; or this network cannot take any size.
    """
    side: int | None = network.image_size
    if any_size:
        if network.architecture == "cnn":
            raise TrainingError("The dense layer of cnn fixes its image size: set no early_size.")
        if network.image_size % 32:
            # MobileNetV2 pads by the size it is built for, and for an even one where it knows
            # none: halved five times, only multiples of 32 are padded alike in both graphs.
            raise TrainingError(
                f"With early_size, image sizes must be multiples of 32, not {network.image_size}."
            )
        side = None
    inputs = keras.Input((side, side, 3), dtype="float32", name="pixels")
    return keras.Model(inputs, _logits(inputs, network, weights), name="core")


def to_pixels(crops: Any, network: Network) -> Any:
    """Part 1 of the graph: crops as float32 pixels of the size that the backbone sees."""
    pixels = keras.ops.cast(crops, "float32")
    if network.grey:
        grey = keras.ops.image.rgb_to_grayscale(pixels)
        pixels = keras.ops.concatenate([grey, grey, grey], axis=-1)
    if network.crop_size != network.image_size:
        pixels = keras.layers.Resizing(
            network.image_size, network.image_size, interpolation="bilinear", name="to_image_size"
        )(pixels)
    return pixels


def _logits(pixels: Any, network: Network, weights: str | Path | None) -> Any:
    if network.architecture == "cnn":
        features = _base_cnn(pixels)
    else:
        features = _application(pixels, network, weights)
        features = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    features = keras.layers.Dropout(network.dropout, name="dropout")(features)
    return keras.layers.Dense(network.classes, dtype="float32", name="logits")(features)


def _base_cnn(pixels: Any) -> Any:
    """Two blocks of convolutions, 32 and 64 wide, and a dense layer of 128."""
    features = keras.layers.Rescaling(1 / 255, name="scale")(pixels)
    for block, width in enumerate((32, 64), start=1):
        features = keras.layers.Conv2D(
            width, 3, padding="same", activation="relu", name=f"conv_{block}"
        )(features)
        features = keras.layers.MaxPooling2D(name=f"pool_{block}")(features)
    features = keras.layers.Flatten(name="flatten")(features)
    return keras.layers.Dense(128, activation="relu", name="dense")(features)


def _application(pixels: Any, network: Network, weights: str | Path | None) -> Any:
    if network.architecture in ("mobilenet_v2", "mobilenet"):
        scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(pixels)
    else:
        # RGB to BGR, then the means are taken off: the convention these weights were made with.
        scaled = keras.layers.Rescaling(1.0, offset=[-mean for mean in _CAFFE_MEANS], name="scale")(
            keras.ops.flip(pixels, axis=-1)
        )
    make = getattr(keras.applications, _APPLICATIONS[network.architecture])
    shape = tuple(pixels.shape[1:])
    try:
        backbone = make(
            input_shape=shape,
            input_tensor=scaled,
            include_top=False,
            weights=str(weights) if weights is not None else None,
        )
    except Exception as error:
        # Keras raises a bare Exception where a download fails.
        if not isinstance(error, OSError | ValueError) and "URL fetch failure" not in str(error):
            raise
        hint = (
            "fetching them needs the network; give a file with --weights PATH, or --weights none"
            if weights == "imagenet"
            else "the file must hold the backbone's weights without its top"
        )
        raise TrainingError(
            f"The weights {weights} of {network.architecture} cannot be used: {hint}."
        ) from error
    return backbone.output


def head_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Layers that are new in a transfer model: those trained while the backbone is frozen."""
    names = {"dense", "logits"}
    return [layer for layer in model.layers if layer.name in names]
