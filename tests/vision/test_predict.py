"""`fer predict`: a line for each face, a refusal for each bad file, nothing kept."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from fer.cli import app
from fer.errors import NoModelError, UnknownModelError
from fer.vision.images import Pixels
from tests.support import SEVEN_LABELS, make_version


@pytest.fixture
def pictures(
    tmp_path: Path, astronaut: Pixels, models: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """One face, two faces, none, no picture, and a file that is none of our business."""
    make_version(models, favourite="happy", default=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_MODELS_DIR", str(models))
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    Image.fromarray(astronaut).save(folder / "one.png")
    Image.fromarray(np.hstack([astronaut, astronaut])).save(folder / "deeper" / "two.JPG")
    Image.new("RGB", (99, 99)).save(folder / "none.webp")
    (folder / "broken.jpg").write_bytes(b"hello")
    (folder / "notes.txt").write_text("hello")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def test_a_line_for_each_face_and_each_refusal(pictures: Path) -> None:
    before = sorted(pictures.parent.rglob("*"))
    result = run(pictures)
    assert result.exit_code == 0, result.output
    lines = {line.split(":")[0]: [] for line in result.stdout.splitlines()}
    for line in result.stdout.splitlines():
        lines[line.split(":")[0]].append(line)
    told = {Path(name).name: found for name, found in lines.items()}
    assert set(told) == {"one.png", "two.JPG", "none.webp", "broken.jpg"}
    assert len(told["one.png"]) == 1 and " happy " in told["one.png"][0]
    assert len(told["two.JPG"]) == 2
    assert "refused: No face" in told["none.webp"][0]
    assert "refused: The file is not a picture" in told["broken.jpg"][0]
    assert sorted(pictures.parent.rglob("*")) == before


def test_json(pictures: Path) -> None:
    result = run(pictures / "one.png", pictures / "broken.jpg", pictures / "gone.jpg", "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["model"] == "20250101T000000Z-tiny"
    one, broken, gone = document["pictures"]
    (face,) = one["faces"]
    assert face["label"] == "happy" and len(face["box"]) == 4
    assert set(face["probabilities"]) == set(SEVEN_LABELS)
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert one["error"] is None
    assert broken["faces"] == [] and broken["error"]["code"] == "not_a_picture"
    assert "cannot be read" in gone["error"]["message"]


def test_csv(pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    assert run(pictures, "--csv", table).exit_code == 0
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    faces = [row for row in rows if row["face"]]
    assert sorted(Path(row["file"]).name for row in faces) == ["one.png", "two.JPG", "two.JPG"]
    assert {row["label"] for row in faces} == {"happy"}
    for row in faces:
        assert sum(float(row[f"p({label})"]) for label in SEVEN_LABELS) == pytest.approx(1)
    refused = {Path(row["file"]).name for row in rows if row["error"]}
    assert refused == {"none.webp", "broken.jpg"}


def test_annotated_pictures(pictures: Path, tmp_path: Path, astronaut: Pixels) -> None:
    out = tmp_path / "out"
    Image.fromarray(astronaut).save(pictures / "one.bmp")
    assert run(pictures, "--annotate", out).exit_code == 0
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.jpg"))
    assert found == ["deeper/two.jpg", "one-2.jpg", "one.jpg"]
    with Image.open(out / "one.jpg") as drawn:
        assert drawn.size == (512, 512)
        assert np.abs(np.asarray(drawn).astype(int) - astronaut).max() > 60


def test_an_uncertain_face_is_told_as_such(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_ABSTAIN", "0.99")
    assert "not sure, happy" in run(pictures / "one.png").stdout


def test_another_model(pictures: Path, models: Path) -> None:
    other = make_version(models, ("calm", "sad"), favourite="sad", number=1)
    assert " sad " in run(pictures / "one.png", "--model", other).stdout
    result = run(pictures / "one.png", "--model", "20990101T000000Z-none")
    assert isinstance(result.exception, UnknownModelError)


def test_nothing_read_is_a_failure(pictures: Path, tmp_path: Path) -> None:
    assert run(pictures / "broken.jpg").exit_code == 1
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / "empty")
    assert result.exit_code == 1 and "no pictures" in result.stderr


def test_without_a_model(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FER_MODELS_DIR", str(tmp_path / "nowhere"))
    assert isinstance(run(pictures).exception, NoModelError)


def test_json_and_csv_exclude_each_other(pictures: Path, tmp_path: Path) -> None:
    assert run(pictures, "--json", "--csv", tmp_path / "t.csv").exit_code == 2


def test_a_file_over_the_limit_is_not_read_whole(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FER_MAX_IMAGE_MB", "0.001")
    result = run(pictures / "one.png", "--json")
    assert json.loads(result.stdout)["pictures"][0]["error"]["code"] == "picture_too_large"
