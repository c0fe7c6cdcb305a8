"""LabelSet: the ordered labels of one model, as its manifest gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fer.errors import LabelError

#: What a label may look like: it becomes a folder name, so no separators, no leading dot.
_LABEL = re.compile(r"[^\W_][\w '&+-]{0,39}", re.UNICODE)

#: Names that Windows refuses as folders; a data folder may be copied there.
_RESERVED = frozenset({"con", "prn", "aux", "nul"})

#: What is said where none of the labels fits. A model may have a label of that name; for that
#: model the word then means the label.
OTHER = "other"


def check_label(name: str) -> str:
    """Return `name` if it can be a label.

    Raises:
        LabelError: it is empty, longer than 40 characters, holds something that a folder name
            must not hold, or is a reserved word.
    """
    if not _LABEL.fullmatch(name) or name != name.strip() or name.casefold() in _RESERVED:
        raise LabelError(
            f"{name!r} cannot be a label: use up to 40 letters, digits, spaces, hyphens or "
            "underscores, beginning with a letter or a digit.",
            label=name,
        )
    return name


@dataclass(frozen=True)
class LabelSet:
    """The labels of one model, in the order of its outputs.

    Names keep their spelling and compare without case.

    Raises:
        LabelError: fewer than two labels, two that differ only in case, or one that
            `check_label` refuses.
    """

    names: tuple[str, ...]

    def __init__(self, names: Iterable[str]) -> None:
        ordered = tuple(names)
        for name in ordered:
            check_label(name)
        if len(ordered) < 2:
            raise LabelError(f"A model needs at least two labels, got {len(ordered)}.")
        if len({name.casefold() for name in ordered}) != len(ordered):
            raise LabelError(f"Labels must differ by more than case: {', '.join(ordered)}.")
        object.__setattr__(self, "names", ordered)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __getitem__(self, index: int) -> str:
        return self.names[index]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(
            own.casefold() == name.casefold() for own in self.names
        )

    def index(self, name: str) -> int:
        """Position of `name`, compared without case.

        Raises:
            LabelError: no such label.
        """
        for position, own in enumerate(self.names):
            if own.casefold() == name.casefold():
                return position
        raise LabelError(
            f"{name!r} is none of this model's labels: {', '.join(self.names)}.",
            label=name,
            labels=", ".join(self.names),
        )

    def spelling(self, name: str) -> str:
        """`name` as this set spells it; LabelError as for `index`."""
        return self.names[self.index(name)]

    def same_as(self, other: LabelSet) -> bool:
        """Whether both hold the same labels, whatever their order or case."""
        return {n.casefold() for n in self} == {n.casefold() for n in other}
