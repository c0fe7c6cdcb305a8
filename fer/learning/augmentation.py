"""Random variation of training crops, as one layer of the training graph.

Geometric changes are one affine transform, so that a face is interpolated once however many of
them are asked for; every face of a batch gets its own.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import ops


@dataclass(frozen=True)
class Augmentation:
    """How far training crops are varied; 0 turns a change off.

    Attributes:
        flip: mirror left and right, half of the time (0 or 1).
        rotation: largest turn either way, as a share of a full turn.
        shift: largest shift either way, as a share of the side.
        zoom: largest enlargement or shrinking, as a share of the side.
        stretch: largest change of the width against the height, as a share.
        brightness: largest shift either way, as a share of the full range.
        contrast: largest factor either way, around the picture's mean.
        blur: largest share by which a face is drawn towards its blurred copy.
        noise: largest standard deviation of added noise, as a share of the full range.
        erase: chance that a rectangle of a face is covered.
    """

    flip: float = 1.0
    rotation: float = 0.05
    shift: float = 0.1
    zoom: float = 0.15
    stretch: float = 0.05
    brightness: float = 0.15
    contrast: float = 0.25
    blur: float = 0.0
    noise: float = 0.02
    erase: float = 0.25

    def scaled(self, strength: float) -> Augmentation:
        """All changes but the mirror, `strength` times as large (probabilities up to 1)."""
        values = {
            name: value if name == "flip" else min(value * strength, 1.0)
            for name, value in asdict(self).items()
        }
        return Augmentation(**values)


class RandomFace(keras.layers.Layer):
    """uint8 or float crops (n, s, s, 3) in 0…255 to varied float32 pixels (n, size, size, 3).

    Without `training=True` it only resizes, as the serving graph does.
    """

    def __init__(
        self, augmentation: Augmentation, size: int, grey: bool, seed: int | None = None
    ) -> None:
        super().__init__(name="augmentation")
        self.augmentation = augmentation
        self.size = size
        self.grey = grey
        self.seeds = keras.random.SeedGenerator(seed)

    def call(self, crops: Any, training: bool = False) -> Any:
        pixels = ops.cast(crops, "float32")
        if self.grey:
            grey = ops.image.rgb_to_grayscale(pixels)
            pixels = ops.concatenate([grey, grey, grey], axis=-1)
        if pixels.shape[1] != self.size:
            pixels = ops.image.resize(pixels, (self.size, self.size), interpolation="bilinear")
        if not training:
            return pixels
        pixels = self._move(pixels)
        pixels = self._light(pixels)
        return self._erase(pixels)

    def _uniform(self, shape: tuple[Any, ...], low: float, high: float) -> Any:
        return keras.random.uniform(shape, low, high, seed=self.seeds)

    def _move(self, pixels: Any) -> Any:
        a, n, side = self.augmentation, ops.shape(pixels)[0], float(self.size)
        angle = self._uniform((n,), -1, 1) * (a.rotation * 2 * math.pi)
        zoom = ops.exp(self._uniform((n,), -1, 1) * math.log1p(a.zoom))
        stretch = ops.exp(self._uniform((n,), -1, 1) * math.log1p(a.stretch))
        mirror = ops.where(self._uniform((n,), 0, 1) < 0.5 * a.flip, -1.0, 1.0)
        shift = self._uniform((2, n), -1, 1) * (a.shift * side)
        # Output to input coordinates, around the centre: the form that affine_transform takes.
        cos, sin = ops.cos(angle), ops.sin(angle)
        wide, high = zoom * stretch * mirror, zoom / stretch
        a0, a1 = cos * wide, -sin * high
        b0, b1 = sin * wide, cos * high
        centre = (side - 1) / 2
        a2 = centre - centre * (a0 + a1) + shift[0]
        b2 = centre - centre * (b0 + b1) + shift[1]
        zero = ops.zeros_like(a0)
        transform = ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)
        return ops.image.affine_transform(
            pixels, transform, interpolation="bilinear", fill_mode="nearest"
        )

    def _light(self, pixels: Any) -> Any:
        a, n = self.augmentation, ops.shape(pixels)[0]
        one = (n, 1, 1, 1)
        if a.blur:
            padded = ops.average_pool(pixels, 3, strides=1, padding="same")
            pixels = pixels + self._uniform(one, 0, a.blur) * (padded - pixels)
        mean = ops.mean(pixels, axis=(1, 2, 3), keepdims=True)
        factor = ops.exp(self._uniform(one, -1, 1) * math.log1p(a.contrast))
        pixels = (pixels - mean) * factor + mean
        pixels = pixels + self._uniform(one, -1, 1) * (a.brightness * 255)
        if a.noise:
            strength = self._uniform(one, 0, a.noise * 255)
            grain = keras.random.normal(ops.shape(pixels[..., :1]), seed=self.seeds)
            pixels = pixels + strength * grain
        return ops.clip(pixels, 0, 255)

    def _erase(self, pixels: Any) -> Any:
        """Cover a rectangle with grey noise (random erasing, Zhong et al. 2020)."""
        a, n = self.augmentation, ops.shape(pixels)[0]
        if not a.erase:
            return pixels
        side = float(self.size)
        area = self._uniform((n,), 0.02, 0.2)
        ratio = ops.exp(self._uniform((n,), -1, 1) * math.log(2.0))
        height, width = ops.sqrt(area * ratio) * side, ops.sqrt(area / ratio) * side
        top = self._uniform((n,), 0, 1) * (side - height)
        left = self._uniform((n,), 0, 1) * (side - width)
        # A rectangle of no height covers nothing: that is how most faces are left alone.
        height = ops.where(self._uniform((n,), 0, 1) < a.erase, height, 0.0)
        line = ops.arange(self.size, dtype="float32")[None, :]
        rows = (line >= top[:, None]) & (line < (top + height)[:, None])
        columns = (line >= left[:, None]) & (line < (left + width)[:, None])
        covered = rows[:, :, None, None] & columns[:, None, :, None]
        fill = self._uniform((n, 1, 1, 1), 0, 255)
        return ops.where(covered, fill, pixels)
