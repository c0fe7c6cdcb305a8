"""Comparisons: the figures by hand, versions side by side, and the report."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support
from typer.testing import CliRunner

import fer.cli
from fer.errors import ConfigError, DataError
from fer.learning.comparison import Comparison, Contestant, compare, duels, holm, macro_figures
from fer.learning.comparison_report import write_comparison
from fer.learning.datasets import open_dataset, thinned
from fer.learning.documents import Document, Heading, Items, Paragraph, Picture, Table
from fer.learning.report_texts import TEXTS, ReportTexts, language_of_environment
from fer.registry import Registry
from tests.support import make_version

LABELS = ("blue", "green", "red")


def colours(folder: Path, count: int = 10) -> Path:
    """Pictures of one colour each; every fifth one lies in the folder of another colour."""
    rng = np.random.default_rng(0)
    for turn, label in enumerate(("red", "green", "blue")):
        for number in range(count):
            place = label if number % 5 else LABELS[turn]
            pixels = rng.integers(0, 60, (16, 16, 3), dtype=np.uint8)
            pixels[..., turn] += 150
            (folder / "test" / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / "test" / place / f"{label}{number}.png")
    return folder


#: Logits that name the strongest channel, for labels in the order blue, green, red.
SEES_COLOUR = np.eye(3, dtype=np.float32)[::-1] / 20


def test_holm_by_hand() -> None:
    # Smallest first: 3 x 0.01, then 2 x 0.02, then 0.04, and never below the one before.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_macro_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    truth, answers = rng.integers(0, 3, 200), rng.integers(0, 4, 200)
    confusion = np.zeros((4, 4))
    np.add.at(confusion, (truth, answers), 1)
    expected = precision_recall_fscore_support(
        truth, answers, labels=[0, 1, 2], average="macro", zero_division=0.0
    )[:3]
    # The fourth label is answered and never true: it counts in no mean.
    np.testing.assert_allclose(macro_figures(confusion), expected)
    np.testing.assert_allclose(macro_figures(np.stack([confusion, confusion]))[1], expected)


def contestant(version: str, answers: list[int]) -> Contestant:
    return Contestant(version, "", "cnn", 1, 1, 1.0, None, [], {}, np.array(answers), {})


def test_a_duel_counts_what_only_one_names_rightly() -> None:
    truth = np.zeros(20, np.int64)
    best = contestant("a", [0] * 18 + [1] * 2)
    worse = contestant("b", [1] * 8 + [0] * 10 + [0] + [1])
    (duel,) = duels(truth, [best, worse])
    assert (duel.only_best, duel.only_this) == (8, 1)
    assert duel.difference == pytest.approx(-7 / 20)
    # Nine coins, one or fewer (eight or more) heads, either way round: 2 (1 + 9) / 512.
    assert duel.p_value == pytest.approx(20 / 512)
    assert duel.corrected == duel.p_value
    assert duel.interval[0] < duel.difference < duel.interval[1] < 0
    (same,) = duels(truth, [best, contestant("c", best.answers.tolist())])
    assert (same.difference, same.p_value, same.interval) == (0.0, 1.0, (0.0, 0.0))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, str, str]:
    """Two tiny versions on coloured pictures: one that sees colour, one that always says red."""
    folder = tmp_path_factory.mktemp("compared")
    data, models = colours(folder / "data"), folder / "models"
    sees = make_version(
        models, LABELS, name="sees", weights=SEES_COLOUR, bias=np.zeros(3), crop_size=16
    )
    # The same labels in another order, which must not matter.
    red = make_version(
        models, ("red", "blue", "green"), name="red", favourite="red", number=1, crop_size=16
    )
    dataset = open_dataset(data)
    comparison = compare(Registry(models), [red, sees], dataset, dataset.pictures, "test")
    return folder, comparison, sees, red


def test_versions_are_measured_on_the_same_pictures(
    compared: tuple[Path, Comparison, str, str],
) -> None:
    _, comparison, sees, red = compared
    # Two of each ten pictures lie in another folder, but for green, whose folder is its own.
    assert [c.version for c in comparison.contestants] == [sees, red]
    best, other = comparison.contestants
    assert best.figures["accuracy"] == pytest.approx(26 / 30)
    # The folder of red holds its eight and two blue ones.
    assert other.figures["accuracy"] == pytest.approx(10 / 30)
    assert other.figures["macro_recall"] == pytest.approx(1 / 3)
    low, high = best.figures["accuracy_interval"]
    assert low < 26 / 30 < high
    (duel,) = comparison.duels
    # Red pictures in their folder: both right. Blue ones there: only `red`. The rest: only `sees`.
    assert (duel.version, duel.only_best, duel.only_this) == (red, 18, 2)
    assert best.milliseconds > 0
    assert best.training_seconds is None


def test_other_labels_cannot_be_compared(compared: tuple[Path, Comparison, str, str]) -> None:
    folder, _, sees, _ = compared
    other = make_version(folder / "models", ("blue", "red"), name="two", number=2)
    dataset = open_dataset(folder / "data")
    with pytest.raises(DataError, match="cannot be compared"):
        compare(Registry(folder / "models"), [sees, other], dataset, dataset.pictures, "test")


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_the_report_is_one_page_that_needs_nothing_else(
    compared: tuple[Path, Comparison, str, str], tmp_path: Path, language: str
) -> None:
    _, comparison, sees, red = compared
    write_comparison(comparison, tmp_path, ReportTexts(language), trained=[sees])
    page = (tmp_path / "report.html").read_text()
    assert f'<html lang="{language}">' in page
    sources = re.findall(r'(?:src|href)="([^"]*)', page)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in page
    for name in ("confusion.png", "figures.png"):
        with Image.open(tmp_path / name) as plot:
            assert plot.format == "PNG"
    markdown = (tmp_path / "report.md").read_text()
    for text in (page, markdown):
        assert sees in text and red in text
        assert TEXTS[language]["compare.seen"] in text
    number = "0,867" if language == "id" else "0.867"
    assert f"| {sees} | {number} |" in markdown
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["best"] == sees
    assert told["n"] == 30
    assert [model["version"] for model in told["models"]] == [sees, red]
    # In the order of the first version asked for, whose answer is always red.
    assert told["labels"] == ["red", "blue", "green"]
    assert told["models"][1]["confusion"] == [[10, 0, 0]] * 3


def test_names_do_not_become_markup(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>|x"
    (tmp_path / "p.png").write_bytes(b"png")
    blocks = [
        Heading(evil),
        Paragraph(evil),
        Items([evil]),
        Table(["a"], [[evil]]),
        Picture("p.png", evil + '"'),
    ]
    document = Document(evil, "en", blocks)
    for text in (document.html(tmp_path), document.markdown()):
        assert "<img src=x" not in text
    assert "| &lt;img src=x onerror=alert(1)&gt;\\|x |" in document.markdown()
    with pytest.raises(ValueError, match="2 columns"):
        Table(["a", "b"], [["only one"]])


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_say_the_same() -> None:
    assert set(TEXTS["en"]) == set(TEXTS["id"])
    for key, text in TEXTS["en"].items():
        assert fields(text) == fields(TEXTS["id"][key]), key


def test_labels_have_the_words_of_the_page() -> None:
    root = Path(fer.cli.__file__).parent
    page = json.loads((root / "web" / "assets" / "texts" / "id.json").read_text())
    words = {k.removeprefix("label."): v for k, v in page.items() if k.startswith("label.")}
    assert len(words) >= 7
    texts = ReportTexts("id")
    assert {name: texts.label(name) for name in words} == words
    assert texts.label("Wide awake") == "Wide awake"
    assert ReportTexts("en").label("happy") == "happy"


def test_numbers_follow_the_language() -> None:
    assert ReportTexts("en").number(1234.5, 1) == "1,234.5"
    assert ReportTexts("id").number(1234.5, 1) == "1.234,5"


def test_the_language_is_the_shells(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert language_of_environment() == "en"
    monkeypatch.setenv("LANG", "id_ID.UTF-8")
    assert language_of_environment() == "id"
    monkeypatch.setenv("LC_ALL", "C")
    assert language_of_environment() == "en"
    with pytest.raises(ConfigError, match="en or id"):
        ReportTexts("fr")


def test_a_share_is_taken_from_each_label_and_split(tmp_path: Path) -> None:
    data = open_dataset(colours(tmp_path / "data", 20))
    part = thinned(data, 0.25, seed=1)
    for label in LABELS:
        had = sum(p.label == label for p in data.pictures)
        assert sum(p.label == label for p in part.pictures) == round(0.25 * had)
    assert set(part.pictures) < set(data.pictures)
    assert thinned(data, 0.25, seed=1).pictures == part.pictures
    assert thinned(data, 0.25, seed=2).pictures != part.pictures
    assert len(thinned(data, 0.001)) == 2 * len(LABELS)
    assert thinned(data, 1.0) is data


def test_the_command_trains_and_compares(
    tmp_path: Path, make_pictures: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "data", 10)
    labels = ("happy", "sad", "Wide awake")
    old = make_version(tmp_path / "models", labels, favourite="sad", crop_size=24)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    knobs = "--image-size 24 --head-epochs 0 --epochs 8 --batch-size 8 --learning-rate 0.003"
    quiet = "--flip 0 --rotation 0 --erase 0 --average 0.5 --seed 1"
    arguments = f"compare data --arch cnn --model {old} --weights none --name duel {knobs} {quiet}"
    result = CliRunner().invoke(fer.cli.app, [*arguments.split(), "--json"])
    assert result.exception is None, result.output
    told = json.loads(result.stdout)
    new = told["best"]
    assert {model["version"] for model in told["models"]} == {new, old}
    # Three labels, of which validation gets two pictures and the test one.
    assert (told["split"], told["n"]) == ("test", 3)
    best = told["models"][0]
    assert best["accuracy"] == 1.0
    assert best["training_seconds"] > 0
    assert len(best["history"]) == 8
    assert {path.name for path in Path("reports/duel").iterdir()} == {
        *("report.json", "report.md", "report.html"),
        *("confusion.png", "figures.png", "curves.png"),
    }

    listed = CliRunner().invoke(fer.cli.app, ["runs", "--json"])
    (run,) = json.loads(listed.stdout)
    assert (run["state"], run["version"], run["epochs"]) == ("finished", new, 8)
    assert run["architecture"] == "cnn"
    plain = CliRunner().invoke(fer.cli.app, ["runs"]).stdout
    assert "[finished]" in plain and new in plain
