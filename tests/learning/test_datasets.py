from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fer.errors import DataError
from fer.labels import LabelSet
from fer.learning.datasets import (
    Votes,
    assign_splits,
    load_faces,
    open_dataset,
    read_votes,
    shortest_sides,
)

PNG_SIDE = 12


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (PNG_SIDE, PNG_SIDE), (9, 9, 9)).save(path)
    return folder


LAYOUTS = {
    "splits": ["train/happy/1.png", "train/sad/1.png", "valid/happy/2.png", "valid/sad/2.png"],
    "deep": [
        "archive/images/Train/happy/1.png",
        "archive/images/Train/sad/1.png",
        "archive/images/VALIDATION/happy/2.png",
        "archive/images/VALIDATION/sad/2.png",
    ],
    "split in label": [
        "happy/train/1.png",
        "sad/train/1.png",
        "happy/val/2.png",
        "sad/val/2.png",
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("zipped", [False, True])
def test_splits_are_found_at_any_depth_and_in_any_case(
    layout: str, zipped: bool, tmp_path: Path
) -> None:
    data = write(tmp_path / "data", *LAYOUTS[layout])
    if zipped:
        archive = tmp_path / "data.zip"
        with zipfile.ZipFile(archive, "w") as out:
            for path in data.rglob("*.png"):
                out.write(path, path.relative_to(data).as_posix())
        data = archive
    dataset = open_dataset(data)
    assert dataset.labels.names == ("happy", "sad")
    assert dataset.splits() == ["train", "validation"]
    assert sorted(p.label for p in dataset.split("valid")) == ["happy", "sad"]
    faces = load_faces(dataset, dataset.split("train"), 8)
    assert faces.crops.shape == (2, 8, 8, 3)


def test_plain_folders_are_split_by_label(tmp_path: Path) -> None:
    names = [f"faces/{label}/{n}.png" for label in ("happy", "sad") for n in range(10)]
    dataset = open_dataset(write(tmp_path, *names))
    assert dataset.splits() == []
    split = assign_splits(dataset, validation_share=0.5, test_share=0.4)
    counts = {
        (s, label): sum(p.label == label for p in split.split(s))
        for s in ("train", "validation", "test")
        for label in ("happy", "sad")
    }
    # Five of ten go to validation, and two fifths of those five to the test.
    assert counts == {
        ("train", "happy"): 5,
        ("train", "sad"): 5,
        ("validation", "happy"): 3,
        ("validation", "sad"): 3,
        ("test", "happy"): 2,
        ("test", "sad"): 2,
    }


def test_splits_that_came_with_the_data_are_kept(tmp_path: Path) -> None:
    names = [f"{s}/{label}/{n}.png" for s in ("train", "test") for label in "ab" for n in range(6)]
    dataset = assign_splits(open_dataset(write(tmp_path, *names)))
    assert {p.name for p in dataset.split("test")} == {n for n in names if n.startswith("test")}
    assert all(p.name.startswith("train") for p in dataset.split("validation"))


def test_the_same_seed_makes_the_same_split(tmp_path: Path) -> None:
    names = [f"{label}/{n}.png" for label in "ab" for n in range(30)]
    dataset = open_dataset(write(tmp_path, *names))
    first, again = assign_splits(dataset, seed=3), assign_splits(dataset, seed=3)
    assert first == again
    assert first != assign_splits(dataset, seed=4)


def test_labels_keep_their_spelling_and_compare_without_case(tmp_path: Path) -> None:
    write(tmp_path, "train/Happy/1.png", "train/Happy/2.png", "test/happy/3.png", "train/SAD/1.png")
    dataset = open_dataset(tmp_path)
    assert dataset.labels.names == ("Happy", "SAD")
    assert {p.label for p in dataset.pictures} == {"Happy", "SAD"}


def test_classes_choose_order_and_merge(tmp_path: Path) -> None:
    write(tmp_path, "joy/1.png", "happy/1.png", "sad/1.png", "fear/1.png")
    dataset = open_dataset(tmp_path, "sad,happy=joy+happy")
    assert dataset.labels.names == ("sad", "happy")
    assert sorted((p.name, p.label) for p in dataset.pictures) == [
        ("happy/1.png", "happy"),
        ("joy/1.png", "happy"),
        ("sad/1.png", "sad"),
    ]


def test_a_class_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path, "happy/1.png", "sad/1.png")
    with pytest.raises(DataError, match=r"'bored'.*happy, sad"):
        open_dataset(tmp_path, "happy,bored")


@pytest.mark.parametrize("make", ["missing", "empty folder", "not a zip"])
def test_what_is_no_data_set_is_refused(make: str, tmp_path: Path) -> None:
    path = tmp_path / "data"
    if make == "empty folder":
        path.mkdir()
    elif make == "not a zip":
        path.write_bytes(b"PK, but no zip")
    with pytest.raises(DataError):
        open_dataset(path)


def test_files_that_are_no_pictures_are_listed_not_fatal(tmp_path: Path) -> None:
    write(tmp_path, "happy/1.png", "sad/1.png", "__MACOSX/happy/._1.png", "happy/.hidden.png")
    (tmp_path / "happy" / "notes.txt").write_text("x")
    (tmp_path / "sad" / "broken.jpg").write_bytes(b"\xff\xd8\xff but no more")
    dataset = open_dataset(tmp_path)
    assert [name for name, _ in dataset.skipped] == ["happy/notes.txt"]
    faces = load_faces(dataset, dataset.pictures, 8)
    assert [name for name, _ in faces.unreadable] == ["sad/broken.jpg"]
    assert sorted(faces.names) == ["happy/1.png", "sad/1.png"]


def test_an_oblong_picture_gives_its_centred_square(tmp_path: Path) -> None:
    picture = np.zeros((20, 60, 3), np.uint8)
    picture[:, 20:40] = 200
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        Image.fromarray(picture).save(tmp_path / label / "1.png")
    dataset = open_dataset(tmp_path)
    faces = load_faces(dataset, dataset.pictures, 20)
    assert (faces.crops == 200).all()
    assert shortest_sides(dataset).tolist() == [20, 20]


def test_a_face_that_is_not_found_is_counted_with_its_label(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path, "happy/1.png", "sad/1.png"))
    faces = load_faces(dataset, dataset.pictures, 8, crop=lambda image: None)
    assert len(faces) == 0
    assert faces.missed == (("happy/1.png", 0), ("sad/1.png", 1))


@pytest.fixture
def votes(tmp_path: Path) -> Votes:
    path = tmp_path / "votes.csv"
    path.write_text(
        "file,happiness,sadness,unknown,NF\n"
        "train/happy/1.jpg,6,2,2,0\n"
        "train/happy/2.jpg,4,4,2,0\n"
        "train/happy/3.jpg,2,1,7,0\n"
        "train/happy/4.jpg,5,0,5,0\n"
    )
    return read_votes(path)


def test_votes_become_shares_of_the_models_labels(votes: Votes) -> None:
    labels = LabelSet(("sad", "happy"))
    shares = votes.distribution(["1.jpg", "3.jpg", "unheard of.jpg"], labels)
    np.testing.assert_allclose(shares, [[0.25, 0.75], [1 / 3, 2 / 3], [0, 0]], atol=1e-6)


def test_the_most_voted_column_counts_and_a_tie_counts_for_either(votes: Votes) -> None:
    labels = LabelSet(("sad", "happy"))
    accepted = votes.accepted([f"x/{n}.jpg" for n in (1, 2, 3, 4)], labels)
    assert accepted.tolist() == [
        [False, True],
        [True, True],
        [False, False],  # most annotators could not tell
        [False, True],  # a tie with "unknown"
    ]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "file,happiness\nx.jpg,many\n", "\x00"])
def test_votes_that_cannot_be_read_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(text)
    with pytest.raises(DataError):
        read_votes(path)


def test_the_shared_data_reads_as_its_readme_says(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "fer2013.zip")
    assert dataset.labels.names == (
        "angry",
        "disgust",
        "fear",
        "happy",
        "neutral",
        "sad",
        "surprise",
    )
    assert len(dataset.split("train")) == 28_557
    assert len(dataset.split("valid")) == 3_579
    press = open_dataset(shared_data / "press_photos.zip")
    assert (len(press), len(press.labels)) == (1_191, 5)
