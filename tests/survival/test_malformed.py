"""Malformed pictures: a sentence each, no crash, nothing over the limits, little memory."""

from __future__ import annotations

import io
import random
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.soak import malformed
from benchmarks.soak.containers import JOIN, SPLIT, with_size
from benchmarks.soak.mutations import FORMATS, MUTATIONS, seedlings, spoiled
from fer.errors import PictureError, PictureTooLargeError
from fer.vision.images import ImageLimits, decode

#: Megabytes above what the process held before; at the limit of 40 megapixels a picture alone,
#: as Pillow holds it and as it is returned, takes 280.
EXTRA_MB = 300


def test_every_format_has_a_good_picture_and_every_mutation_changes_it() -> None:
    good = seedlings()
    assert {one.format for one in good} == set(FORMATS)
    for one in good:
        decode(one.data, ImageLimits())
    changed = Counter(
        one.origin.split(": ")[1]
        for one in spoiled(len(good) * len(MUTATIONS))
        if one.data not in {origin.data for origin in good}
    )
    for mutation in MUTATIONS:
        assert changed[mutation.__name__] > 0.9 * len(good), mutation.__name__


def test_the_same_seed_spoils_the_same_way() -> None:
    assert [one.data for one in spoiled(60)] == [one.data for one in spoiled(60)]
    assert [one.data for one in spoiled(60, seed=1)] != [one.data for one in spoiled(60)]


def test_taken_apart_and_put_together_a_picture_is_the_same() -> None:
    """Else the chunk edits would test a broken file, not the edit."""
    for one in seedlings():
        if one.format in ("PNG", "WEBP", "GIF"):
            assert JOIN[one.format](SPLIT[one.format](one.data), one.data) == one.data, one.variant
        elif one.format in ("JPEG", "TIFF"):
            again = decode(JOIN[one.format](SPLIT[one.format](one.data), one.data), ImageLimits())
            assert (again == decode(one.data, ImageLimits())).all(), one.variant


def test_a_few_malformed_pictures() -> None:
    hold(malformed.run(80, seed=3))


@pytest.mark.long
def test_a_thousand_malformed_pictures() -> None:
    hold(malformed.run(1000))


def hold(outcome: malformed.Outcome) -> None:
    assert outcome.wrong == []
    assert outcome.extra_mb < EXTRA_MB, f"at {outcome.peak_at}"
    assert set(outcome.refused) >= {"truncated_picture", "not_a_picture"}
    assert sum(outcome.refused.values()) > outcome.tried / 2
    assert outcome.read > 0


def test_a_crash_of_the_process_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A decoder that takes the process along must not look like a run without trouble."""
    script = "import os, PIL.Image as i; i.open = lambda *a, **k: os.abort()"
    (tmp_path / "sitecustomize.py").write_text(script)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (told,) = malformed.run(2).wrong
    assert "ended with -6" in told


@pytest.mark.parametrize(
    ("kind", "side", "limit"), [("WEBP", 4100, 16), ("AVIF", 5200, 26), ("JPEG", 5300, 28)]
)
def test_a_decoder_that_copies_much_is_given_fewer_pixels(kind: str, side: int, limit: int) -> None:
    """An animated WebP of some kilobytes that claimed 32 megapixels took 687 MB and 4.6 s."""
    stream = io.BytesIO()
    Image.new("RGB", (40, 40)).save(
        stream, kind, **({"progressive": True} if kind == "JPEG" else {})
    )
    lying = with_size(kind, stream.getvalue(), side, side)
    with pytest.raises(PictureTooLargeError, match=f"more than {limit} megapixels"):
        decode(lying, ImageLimits())


@pytest.mark.parametrize("compression", ["group3", "group4"])
def test_a_fax_does_not_fill_the_log(compression: str, capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff wrote a line for every damaged row of such a picture."""
    stream = io.BytesIO()
    Image.radial_gradient("L").convert("1").save(stream, "TIFF", compression=compression)
    data = bytearray(stream.getvalue())
    data[8:-200] = random.Random(1).randbytes(len(data) - 208)
    with pytest.raises(PictureError):
        decode(bytes(data), ImageLimits())
    assert capfd.readouterr().err == ""
