"""What Gradio reads from the environment, set before it is imported."""

from __future__ import annotations

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
