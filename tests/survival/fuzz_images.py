"""Fuzz target for `fer.vision.images.decode`, with atheris (pip install 'fer[fuzz]').

    python tests/survival/fuzz_images.py -max_total_time=300 [CORPUS]

Begins with the good pictures of `benchmarks.soak.mutations`. What it finds lies in `crash-*`
beside it, and belongs into `tests/survival/test_malformed.py` once it is mended. Pillow's Python
code and ours are instrumented; the C libraries are not, but a crash of theirs ends the run.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

with atheris.instrument_imports(include=["PIL", "pillow_heif", "fer.vision.images"]):
    import PIL.AvifImagePlugin
    import PIL.BmpImagePlugin
    import PIL.GifImagePlugin
    import PIL.JpegImagePlugin
    import PIL.MpoImagePlugin
    import PIL.PngImagePlugin
    import PIL.TiffImagePlugin
    import PIL.WebPImagePlugin  # noqa: F401

    from fer.errors import PictureError
    from fer.vision.images import ImageLimits, decode

from benchmarks.soak.malformed import is_sentence
from benchmarks.soak.mutations import seedlings

#: Small pictures are enough to reach every branch, and leave time for more of them.
LIMITS = ImageLimits(max_bytes=100_000, max_pixels=400_000)


def check(data: bytes) -> None:
    """One picture: read within the limits, or refused with a sentence."""
    try:
        read = decode(data, LIMITS)
    except PictureError as error:
        if not is_sentence(error.message):
            raise AssertionError(f"no sentence: {error.message}") from error
        return
    height, width = read.shape[:2]
    if height * width > LIMITS.max_pixels or min(height, width) < LIMITS.min_side:
        raise AssertionError(f"read as {read.shape}")


def main() -> None:
    """Fuzz until told to stop, or until something is found."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        for number, good in enumerate(seedlings()):
            (Path(folder) / f"{number:02}-{good.format}").write_bytes(good.data)
        own = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
        options = [argument for argument in sys.argv[1:] if argument.startswith("-")]
        # libFuzzer writes what is new to the first folder.
        atheris.Setup([sys.argv[0], *options, *own, folder], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
