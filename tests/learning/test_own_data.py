"""docs/own-data.md, command by command, on small pictures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fer.registry import Registry
from tests.learning.conftest import draw
from tests.web.serving import ROOT, start

GUIDE = ROOT / "docs" / "own-data.md"
LABELS = ("happy", "sleepy", "surprised")


def commands() -> list[str]:
    """The guide's command lines, in their order."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


def test_the_guide_goes_all_the_way() -> None:
    typed = commands()
    words = [re.findall(r"^\.venv/bin/(?:fer )?(\S+)", line)[0] for line in typed]
    assert words == [
        *("explore", "train", "runs", "models", "compare", "train", "python", "evaluate")
    ]
    # The folder drawn in the guide is the one that the test makes.
    assert re.findall(r"^ {4}(\w+)/", GUIDE.read_text(), re.M) == list(LABELS)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_every_command_works_as_it_stands(tmp_path: Path, face_jpeg: bytes) -> None:
    for index, label in enumerate(LABELS):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(24):
            # Bands from top to bottom: the mirror of the augmentation leaves them where they are.
            picture = Image.fromarray(draw(index, number).transpose(1, 0, 2))
            picture.save(tmp_path / "pictures" / label / f"{number}.png")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FER_", "MLFLOW_"))
    }
    said = {}
    for line in commands():
        if line == ".venv/bin/python app.py":
            # It would serve until it is stopped: the server below is that command.
            continue
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, env=plain, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        said[line.split()[1]] = done.stdout
    assert (tmp_path / "reports" / "pictures" / "report.html").is_file()
    report = json.loads((tmp_path / "reports" / "mine" / "report.json").read_text())
    assert {model["architecture"] for model in report["models"]} == {"cnn", "mobilenet"}
    assert said["runs"].count("[finished]") == 1
    registry = Registry(tmp_path / "models")
    champion = registry.manifest(registry.champion())
    assert champion.title == "My labels"
    assert champion.labels == LABELS
    # The bands that the pictures show are learned.
    accuracy = re.search(r"accuracy +([\d.]+)", said["evaluate"])
    assert accuracy is not None and float(accuracy[1]) > 0.8

    server = start(tmp_path, models=registry.folder)
    try:
        answer = server.classify(face_jpeg, keep=True)
        assert answer["model"] == champion.version
        (face,) = answer["faces"]
        assert tuple(face["probabilities"]) == LABELS
        assert [path.parent.name for path in server.kept()] == [face["label"]]
    finally:
        server.stop()
