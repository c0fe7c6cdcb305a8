"""What Gradio and the C library go by, set before Gradio is imported and a thread begins."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def prepare(uploads: Path) -> None:
    """Turn off Gradio's look-ups and point its upload folder at `uploads`.

    Gradio reads these variables when it is imported and again at every request, so this comes
    before the first import of `gradio`, and nobody changes them afterwards.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_RUN_HISTORY"] = "False"
    os.environ["GRADIO_SSR_MODE"] = "False"
    # Gradio asks matplotlib, which MediaPipe loads, for its backend at every event; without this
    # the first visitor waits seconds until every toolkit for windows was looked for.
    os.environ["MPLBACKEND"] = "agg"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)


def share_heaps(heaps: int = 2) -> bool:
    """Let all threads allocate from a few heaps, where the C library is glibc.

    It would give each of up to 16 threads on two processors a heap of its own, and each keeps what
    its largest picture needed: memory grew for minutes under many visitors. To be called before
    any thread begins.

    Returns:
        Whether the C library knows of it.
    """
    arena_max = -8  # M_ARENA_MAX of <malloc.h>
    try:
        return bool(ctypes.CDLL(None).mallopt(arena_max, heaps))
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return False
