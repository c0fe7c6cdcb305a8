"""Every knob of a training, with its default and its meaning."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from fer.errors import TrainingError

#: Networks that can be trained; `fer.learning.architectures` builds them.
ARCHITECTURES = ("mobilenet_v2", "mobilenet", "cnn", "resnet50", "vgg16", "vgg19")

Schedule = Literal["cosine", "plateau"]
#: How far rare classes are brought up, by weight or by how often they are drawn.
Balance = Literal["none", "sqrt", "balanced"]


def knob(default: Any, meaning: str) -> Any:
    """A field of `Recipe`: its default, and the sentence that `--help` prints."""
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the manifest keeps it, so that the training can be repeated."""

    architecture: str = knob("mobilenet_v2", f"Network to train: {', '.join(ARCHITECTURES)}.")
    image_size: int = knob(96, "Side of the picture that the network sees, in pixels.")
    crop_size: int = knob(
        0, "Side of the crops it takes, in pixels; 0: as the data, at most image_size."
    )
    grey: str = knob("auto", "Drop colours first: yes, no, or auto (yes if the data has none).")
    epochs: int = knob(12, "Epochs of fine-tuning, after the head's.")
    head_epochs: int = knob(
        2, "Epochs in which the head alone is trained, the base frozen; none of them for cnn."
    )
    early_size: int = knob(0, "Smaller image size for the first epochs of fine-tuning; 0: none.")
    early_epochs: int = knob(0, "How many epochs of fine-tuning use early_size.")
    unfreeze: int = knob(-1, "Last layers to fine-tune; -1: all of them, 0: the head alone.")
    batch_size: int = knob(64, "Faces in one step.")
    learning_rate: float = knob(1e-3, "Largest learning rate of fine-tuning.")
    head_learning_rate: float = knob(2e-3, "Learning rate of the head's epochs.")
    weight_decay: float = knob(0.02, "AdamW's weight decay.")
    warmup: float = knob(0.05, "Share of the steps in which the learning rate rises.")
    schedule: str = knob(
        "cosine", "Learning rate over time: cosine, or plateau (ReduceLROnPlateau)."
    )
    patience: int = knob(0, "Stop after so many epochs without a better validation; 0: never.")
    dropout: float = knob(0.3, "Share of the pooled features dropped while training.")
    label_smoothing: float = knob(0.1, "Probability spread over the other labels.")
    vote_weight: float = knob(0.5, "Share of the votes in the targets, where there are votes.")
    teacher_weight: float = knob(0.5, "Share of the teacher in the targets, where there is one.")
    class_weights: str = knob("sqrt", "Weight of rare classes: none, sqrt or balanced.")
    sampling: str = knob("none", "Draw faces of rare classes more often: none, sqrt or balanced.")
    mixup: float = knob(0.0, "Beta parameter of mixup; 0: none.")
    cutmix: float = knob(0.0, "Beta parameter of CutMix, instead of mixup; 0: none.")
    average: float = knob(0.998, "Decay of the running average of the weights; 0: none.")
    seed: int = knob(0, "Seed of every random choice.")
    flip: float = knob(1.0, "Mirror faces left and right (0 or 1).")
    rotation: float = knob(0.05, "Largest turn, as a share of a full turn.")
    shift: float = knob(0.1, "Largest shift, as a share of the side.")
    zoom: float = knob(0.15, "Largest enlargement or shrinking.")
    stretch: float = knob(0.05, "Largest change of width against height.")
    brightness: float = knob(0.15, "Largest change of brightness, as a share of the range.")
    contrast: float = knob(0.25, "Largest change of contrast.")
    blur: float = knob(0.5, "Largest share of blur.")
    noise: float = knob(0.02, "Largest noise, as a share of the range.")
    erase: float = knob(0.25, "Chance that a rectangle of a face is covered.")

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise TrainingError(
                f"There is no architecture {self.architecture!r}; "
                f"choose one of {', '.join(ARCHITECTURES)}."
            )
        choices = {
            "schedule": get_args(Schedule),
            "class_weights": get_args(Balance),
            "sampling": get_args(Balance),
            "grey": ("auto", "yes", "no"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise TrainingError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}."
                )
        shares = ("vote_weight", "teacher_weight", "label_smoothing", "dropout", "warmup")
        for name in (*shares, "average", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name} must lie in 0…1, got {getattr(self, name)}.")
        for name in ("epochs", "head_epochs", "early_epochs", "mixup", "cutmix", "patience"):
            if getattr(self, name) < 0:
                raise TrainingError(f"{name} must not be negative, got {getattr(self, name)}.")
        for name in ("batch_size", "image_size", "learning_rate"):
            if getattr(self, name) <= 0:
                raise TrainingError(f"{name} must be positive, got {getattr(self, name)}.")
        if self.early_size and (self.early_size < 32 or self.early_size % 32):
            raise TrainingError(f"early_size must be 0 or a multiple of 32, got {self.early_size}.")
        if self.mixup and self.cutmix:
            raise TrainingError("mixup and cutmix are two ways to mix faces: set one of them.")
        if self.early_epochs > self.epochs:
            raise TrainingError("early_epochs are part of epochs, and cannot be more.")

    def as_dict(self) -> dict[str, Any]:
        """All knobs by name."""
        return asdict(self)

    def as_toml(self) -> str:
        """All knobs as a TOML document that `read_recipe` takes."""
        lines = []
        for name, value in self.as_dict().items():
            lines.append(f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}")
        return "\n".join(lines) + "\n"


def knobs() -> list[tuple[str, type, Any, str]]:
    """Name, type, default and meaning of every knob."""
    types = get_type_hints(Recipe)
    return [(f.name, types[f.name], f.default, f.metadata["help"]) for f in fields(Recipe)]


def read_recipe(path: Path) -> dict[str, Any]:
    """Knobs that a TOML file sets.

    Raises:
        TrainingError: it cannot be read, or names a knob that does not exist or has another type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"{path} cannot be read as TOML: {error}.") from error
    return checked(values, str(path))


def checked(values: dict[str, Any], source: str) -> dict[str, Any]:
    """`values` with each knob's type; TrainingError names what is wrong in `source`."""
    types = {name: type_ for name, type_, _, _ in knobs()}
    result: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            raise TrainingError(f"{source}: there is no knob {name!r}.")
        wanted = types[name]
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise TrainingError(f"{source}: {name} must be {wanted.__name__}, got {value!r}.")
        result[name] = value
    return result
