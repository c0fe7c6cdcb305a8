"""Exploring a data set: copies, leaks, sizes and votes that were put there on purpose."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image, ImageFilter
from typer.testing import CliRunner

import fer.cli
from fer.learning.datasets import open_dataset, read_votes
from fer.learning.exploration import Exploration, Nearness, exact_copies, explore
from fer.learning.exploration_report import write_exploration
from fer.learning.layouts import Picture
from fer.learning.report_texts import TEXTS, ReportTexts


def texture(seed: int, side: int = 64) -> Image.Image:
    """A smooth grey picture unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8))
    return noise.resize((side, side), Image.Resampling.BICUBIC).convert("RGB")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of their own, and others that are not."""
    root = tmp_path_factory.mktemp("explore") / "faces"
    for split, label in (("train", "happy"), ("train", "sad"), ("validation", "happy")):
        (root / split / label).mkdir(parents=True)
    for number in range(4):
        texture(number).save(root / f"train/happy/{number}.png")
        texture(number + 10).save(root / f"train/sad/{number}.png")
        texture(number + 20).save(root / f"validation/happy/{number}.png")
    # The same file in both splits, with another label on the way.
    copy = (root / "train/happy/0.png").read_bytes()
    (root / "validation/happy/copy.png").write_bytes(copy)
    (root / "train/sad/copy.png").write_bytes(copy)
    # The same pixels in another file.
    texture(10).save(root / "validation/happy/pixels.bmp")
    # Nearly the same: blurred, darker, smaller, as a JPEG; once within, once across splits.
    for seed, place in ((11, "train/sad/near.jpg"), (1, "validation/happy/near.jpg")):
        near = texture(seed).filter(ImageFilter.GaussianBlur(1)).resize((48, 48))
        Image.fromarray((np.asarray(near) * 0.9).astype(np.uint8)).save(root / place, quality=80)
    Image.new("L", (64, 64), 90).save(root / "train/sad/flat.png")
    (root / "train/sad/broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    (root / "train/sad/notes.txt").write_text("not a picture at all")
    return root


@pytest.fixture(scope="module")
def found(data: Path) -> Exploration:
    return explore(open_dataset(data))


def names(found: Exploration, group: tuple[int, ...]) -> set[str]:
    return {found.seen.pictures[row].name for row in group}


def test_exact_copies_are_found_by_bytes_and_by_pixels(found: Exploration) -> None:
    (group,) = found.same_bytes.groups
    assert names(found, group) == {
        *("train/happy/0.png", "train/sad/copy.png", "validation/happy/copy.png")
    }
    groups = [names(found, group) for group in found.same_pixels.groups]
    assert {"train/sad/0.png", "validation/happy/pixels.bmp"} in groups
    assert len(groups) == 2
    assert found.same_pixels.pictures == 5
    assert found.same_pixels.across == 2
    # The copy is called happy and sad; so is the pair.
    assert found.same_pixels.other_labels == 2
    ((splits, rows),) = found.same_pixels.leaks.items()
    assert splits == ("train", "validation")
    assert names(found, rows) == {"validation/happy/copy.png", "validation/happy/pixels.bmp"}


def test_near_duplicates_are_found_and_nothing_else(found: Exploration) -> None:
    groups = [names(found, group) for group in found.near.groups]
    assert groups == [
        {"train/happy/1.png", "validation/happy/near.jpg"},
        {"train/sad/1.png", "train/sad/near.jpg"},
    ]
    assert found.near.across == 1
    assert names(found, found.near.leaks[("train", "validation")]) == {"validation/happy/near.jpg"}


def test_counts_sizes_and_what_cannot_be_read(found: Exploration) -> None:
    told = found.as_dict()
    assert told["counts"] == {
        "happy": {"train": 4, "validation": 7},
        "sad": {"train": 7},
    }
    assert told["n"] == 18
    assert told["sizes"] == {"64x64": 16, "48x48": 2}
    assert told["modes"] == {"RGB": 17, "L": 1}
    assert told["formats"] == {"PNG": 15, "JPEG": 2, "BMP": 1}
    assert told["flat"] == ["train/sad/flat.png"]
    assert [entry["name"] for entry in told["unreadable"]] == ["train/sad/broken.jpg"]
    assert [entry["name"] for entry in told["skipped"]] == ["train/sad/notes.txt"]


def test_brightness_and_the_mean_face(tmp_path: Path) -> None:
    for label, levels in (("dark", (10, 30)), ("light", (200, 240))):
        (tmp_path / label).mkdir()
        for level in levels:
            Image.new("RGB", (40, 50), (level,) * 3).save(tmp_path / label / f"{level}.png")
    found = explore(open_dataset(tmp_path))
    told = found.as_dict()["brightness"]
    assert told["dark"] == {"mean": 20.0, "std": 10.0}
    assert told["light"] == {"mean": 220.0, "std": 20.0}
    np.testing.assert_allclose(found.seen.means["dark"], 20)
    # Two blank pictures correlate with nothing: no near duplicates.
    assert found.near.groups == ()
    # Without splits nothing can leak.
    assert found.same_pixels.leaks == {}


def test_a_group_of_three_counts_each_leak_once() -> None:
    pictures = [Picture(f"{n}", "x", s) for n, s in enumerate(("test", "train", "test", None))]
    copies = exact_copies(pictures, [b"a"] * 4)
    assert copies.leaks == {
        ("train", "test"): (0, 2),
        ("train", ""): (3,),
        ("test", ""): (3,),
    }
    assert exact_copies(pictures, [b"a", b"b", b"c", b"d"]).groups == ()


def test_the_votes_disagree_where_they_do(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "votes.csv"
    table.write_text(
        "file,happiness,sadness,unknown\n"
        "0.png,8,2,0\n"  # happy; it is the name of three pictures, one of them sad
        "1.png,5,5,0\n"  # a tie counts for either
        "2.png,0,1,9\n"  # unknown: counts for nothing
    )
    dataset = open_dataset(data)
    votes = explore(dataset, read_votes(table)).votes
    assert votes is not None
    assert votes.counted == {"happy": 4, "sad": 2}
    assert votes.agree == {"happy": 4, "sad": 1}
    assert votes.instead["sad"] == {"happy": 1}
    assert votes.names == ("train/sad/0.png",)


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_the_report_says_it(found: Exploration, tmp_path: Path, language: str) -> None:
    write_exploration(found, tmp_path, ReportTexts(language))
    page = (tmp_path / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)', page)
    assert len(sources) == 5
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    texts = ReportTexts(language)
    leak = texts("explore.leak", n=2, earlier=texts.split("train"), later=texts.split("validation"))
    for text in (page, (tmp_path / "report.md").read_text()):
        assert leak in text
        assert "broken.jpg" in text
        assert texts.label("happy") in text
    assert json.loads((tmp_path / "report.json").read_text())["n"] == 18


def test_the_command_explores(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["explore", str(data), "--name", "mine", "--lang", "en"]
    result = CliRunner().invoke(fer.cli.app, command)
    assert result.exception is None, result.output
    assert "2 pictures of validation have a copy in train" in result.stdout
    assert "reports/mine/report.html" in result.stdout
    told = json.loads(CliRunner().invoke(fer.cli.app, [*command, "--json"]).stdout)
    assert told["same_pixels"]["leaks"] == [{"from": "train", "into": "validation", "pictures": 2}]
    near = json.loads(
        CliRunner().invoke(fer.cli.app, [*command, "--near-correlation", "1", "--json"]).stdout
    )
    assert near["near"]["groups"] == 0


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_fer2013_leaks_as_many_copies_as_its_bytes_say(shared_data: Path) -> None:
    archive = shared_data / "fer2013.zip"
    splits = defaultdict(set)
    copied = 0
    with zipfile.ZipFile(archive) as pictures:
        listed = [n for n in pictures.namelist() if n.endswith(".jpg")]
        digests = {n: hashlib.sha256(pictures.read(n)).hexdigest() for n in listed}
    for name, digest in digests.items():
        splits[digest].add(PurePosixPath(name).parts[0])
    copied = sum(n.startswith("validation") and len(splits[d]) == 2 for n, d in digests.items())
    assert copied > 0
    found = explore(open_dataset(archive), nearness=Nearness(0, 1.0))
    assert len(found.seen.pictures) == len(listed)
    for copies in (found.same_bytes, found.same_pixels):
        assert len(copies.leaks[("train", "validation")]) == copied
