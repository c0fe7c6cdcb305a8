"""LabelSet: any names, their order, their spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer.errors import LabelError
from fer.labels import LabelSet, check_label

letters = st.characters(categories=("L", "Nd"))
names = st.text(st.one_of(letters, st.sampled_from(" -_'&+")), min_size=1, max_size=40).filter(
    lambda name: name == name.strip() and name[0] not in " -_'&+"
)


def accepted(name: str) -> bool:
    try:
        check_label(name)
    except LabelError:
        return False
    return True


label_sets = st.lists(
    names.filter(accepted), min_size=2, max_size=12, unique_by=lambda name: name.casefold()
)


@pytest.mark.parametrize(
    "name",
    ("happy", "Happy", "very happy", "non-neutral", "7", "gembira", "喜び", "état", "a" * 40),
)
def test_names_that_can_be_labels(name: str) -> None:
    assert check_label(name) == name


@pytest.mark.parametrize(
    "name",
    (
        "", " ", " happy", "happy ", ".", "..", ".happy", "a/b", "a\\b", "a:b", "_private", "-flag",
        "a\nb", "a\0b", "a" * 41, "con", "NUL", "aux", "<b>",
    ),
)  # fmt: skip
def test_names_that_cannot(name: str) -> None:
    with pytest.raises(LabelError) as caught:
        check_label(name)
    assert caught.value.details["label"] == name


@pytest.mark.parametrize("wrong", ((), ("one",), ("happy", "Happy"), ("happy", "a/b")))
def test_sets_that_cannot_be(wrong: tuple[str, ...]) -> None:
    with pytest.raises(LabelError):
        LabelSet(wrong)


@given(label_sets)
def test_any_set_keeps_order_and_spelling(chosen: list[str]) -> None:
    labels = LabelSet(iter(chosen))
    assert list(labels) == chosen and len(labels) == len(chosen)
    assert labels.names == tuple(chosen)
    for position, name in enumerate(chosen):
        assert labels[position] == name
        assert labels.index(name) == position
        assert name in labels


@given(label_sets, st.randoms())
def test_sets_compare_without_case_and_order(chosen: list[str], random: object) -> None:
    shuffled = list(chosen)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert LabelSet(chosen).same_as(LabelSet(shuffled))
    assert not LabelSet(chosen).same_as(LabelSet([*chosen, "a label that is in no set 1234567"]))


def test_spelling_is_the_sets_own() -> None:
    labels = LabelSet(("Happy", "sad"))
    assert labels.spelling("HAPPY") == "Happy" and labels.index("SAD") == 1
    assert "hApPy" in labels and "angry" not in labels and 3 not in labels
    assert LabelSet(("HAPPY", "Sad")).same_as(labels)


def test_an_unknown_label_names_those_there_are() -> None:
    with pytest.raises(LabelError, match="Happy, sad") as caught:
        LabelSet(("Happy", "sad")).index("angry")
    assert caught.value.details["label"] == "angry"
