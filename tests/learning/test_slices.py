"""Figures of parts: worked out by hand, and through the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fer.cli import app
from fer.errors import DataError
from fer.learning.slices import Answers, Facts, by_groups, facts_of, read_groups, slices
from tests.support import make_version

#: Two labels; faces 0 to 7, of which 0 to 3 are label 0. Face 7 was missed.
TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 1])
GIVEN = np.array([0, 0, 1, 1, 1, 1, 0, 2])
ANSWERS = Answers(TRUTH, GIVEN, 2)


def facts(**known: list[float]) -> Facts:
    unknown = np.full(8, np.nan)
    return Facts(*(np.array(known.get(n, unknown), float) for n in Facts.__dataclass_fields__))


def test_a_part_has_its_own_figures_and_intervals() -> None:
    part = ANSWERS.part(np.array([0, 1, 2, 6, 7]))
    assert part["n"] == 5
    assert part["accuracy"] == pytest.approx(2 / 5)
    # Label 0: two of three; label 1: none of two, one of them missed.
    assert part["balanced_accuracy"] == pytest.approx((2 / 3 + 0) / 2)
    low, high = part["accuracy_interval"]
    # Wilson's for 2 of 5.
    assert (low, high) == pytest.approx((0.1176, 0.7693), abs=1e-3)
    low, high = part["balanced_accuracy_interval"]
    assert 0 <= low <= 1 / 3 <= high <= 1


def test_a_missed_face_is_wrong_for_the_votes_too() -> None:
    accepted = np.zeros((8, 2), bool)
    accepted[[0, 2, 7], [0, 1, 1]] = True
    part = Answers(TRUTH, GIVEN, 2, accepted).part(np.arange(8))
    assert part["ferplus_n"] == 3
    assert part["ferplus_accuracy"] == pytest.approx(2 / 3)


def test_each_face_is_in_one_slice_of_each_property() -> None:
    found = slices(ANSWERS, facts(brightness=[1, 2, 3, 4, 5, 6, 7, 8], size=[48] * 8))
    # What is not known, or the same for all, makes no slices.
    assert set(found) == {"brightness"}
    assert [row["n"] for row in found["brightness"]] == [2, 2, 2, 2]
    assert [row["accuracy"] for row in found["brightness"]] == [1, 0, 1, 0]
    assert found["brightness"][0]["from"] == 1
    assert found["brightness"][-1]["to"] == 8


def test_a_head_leans_to_either_side() -> None:
    found = slices(ANSWERS, facts(roll=[0, -4.9, 5, -14, 20, 29, -31, 90]))["roll"]
    assert [row["n"] for row in found] == [2, 2, 2, 2]
    assert [row["slice"] for row in found][1:3] == ["5.0 to 15", "15 to 30"]


def test_facts_tell_dark_from_light_and_blurred_from_sharp() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 100, (1, 32, 32, 3), dtype=np.uint8)
    flat = np.full((1, 32, 32, 3), 200, np.uint8)
    found = facts_of(np.concatenate([noise, flat]))
    assert found.brightness[1] == pytest.approx(200, abs=1)
    assert found.brightness[0] < 100
    assert found.sharpness[1] == 0
    assert found.sharpness[0] > 100
    assert np.isnan(found.roll).all()


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_groups_of_any_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "groups.csv",
        "\ufefffile,age band,skin tone\n0.jpg,young,1\nb/1.jpg,young,2\n2.jpg,old,1\n"
        "3.jpg,old,\n4.jpg,young,1\n5.jpg,,2\n",
    )
    names = [f"a/{n}.jpg" for n in range(8)]
    names[1] = "b/1.jpg"
    found = by_groups(ANSWERS, names, read_groups(path))
    assert found["unnamed"] == 2
    ages = {row["group"]: row for row in found["columns"]["age band"]}
    assert set(ages) == {"young", "old"}
    assert (ages["young"]["n"], ages["young"]["accuracy"]) == (3, 1)
    assert (ages["old"]["n"], ages["old"]["accuracy"]) == (2, 0)
    tones = {row["group"]: row["n"] for row in found["columns"]["skin tone"]}
    assert tones == {"1": 3, "2": 2}


def test_a_column_of_many_numbers_is_cut_into_quarters(tmp_path: Path) -> None:
    rows = "".join(f"{n}.jpg,{n}\n" for n in range(20))
    groups = read_groups(write(tmp_path / "g.csv", "file,age\n" + rows))
    truth = np.zeros(20, int)
    found = by_groups(Answers(truth, truth, 2), [f"{n}.jpg" for n in range(20)], groups)
    assert [row["n"] for row in found["columns"]["age"]] == [5, 5, 5, 5]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("picture,age\n1.jpg,9\n", "no column `file`"),
        ("file\n1.jpg\n", "none beside it"),
        ("file,age\n1.jpg,9\n1.jpg,8\n", "twice"),
        ("file,age\nelsewhere.jpg,9\n", "names none of the pictures"),
        ("file,who\n" + "".join(f"{n}.jpg,p{n}\n" for n in range(50)), "50 different values"),
    ],
)
def test_what_is_no_file_of_groups_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path / "g.csv", text)
    truth = np.zeros(50, int)
    with pytest.raises(DataError, match=sentence):
        by_groups(Answers(truth, truth, 2), [f"{n}.jpg" for n in range(50)], read_groups(path))


def test_the_command_writes_a_report_with_sheets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The model says b where a picture is red, else a; one red picture is labelled a.
    weights = np.array([[0.0, 0, 0], [0.04, 0, 0]], np.float32)
    make_version(
        tmp_path / "models", ("a", "b"), weights=weights, bias=np.array([2.0, 0.0]), default=True
    )
    for label, red in (("a", [10, 20, 30, 250]), ("b", [200, 220, 240])):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number, value in enumerate(red):
            picture = Image.new("RGB", (60 + number, 60), (value, 100, 100))
            picture.save(tmp_path / "data" / label / f"{label}{number}.png")
    groups = write(tmp_path / "g.csv", "file,kind\na0.png,x\na3.png,<y>\nb1.png,x\n")
    monkeypatch.setenv("FER_MODELS_DIR", str(tmp_path / "models"))
    out = tmp_path / "out"
    command = ["evaluate", str(tmp_path / "data"), "--groups", str(groups), "--out", str(out)]
    run = CliRunner().invoke(app, [*command, "--lang", "id", "--json"])
    assert run.exit_code == 0, run.output
    figures = json.loads(run.stdout)
    assert figures["accuracy"] == pytest.approx(6 / 7)
    kinds = {row["group"]: row["accuracy"] for row in figures["groups"]["columns"]["kind"]}
    assert kinds == {"x": 1, "<y>": 0}
    assert json.loads((out / "figures.json").read_text())["slices"] == figures["slices"]
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "a/a3.png: a → b" in report
    assert "Kesalahan yang paling yakin" in report
    assert "&lt;y&gt;" in (out / "report.html").read_text(encoding="utf-8")
    for name in ("mistakes.png", "sample.png", "reliability.png", "confusion.png"):
        assert Image.open(out / name).size[0] > 300, name
