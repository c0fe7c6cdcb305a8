"""Asks every route below `/review` of the whole server, as a stranger; prints what it answered.

A program of its own, because Gradio reads its environment when it is imported.
Argument: the data folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fer.config import Settings
from fer.web.environment import prepare
from fer.web.uploads import UploadFolder


def main() -> None:
    folder = Path(sys.argv[1])
    uploads = UploadFolder()
    prepare(uploads.path)
    from starlette.testclient import TestClient

    from fer.web.server import create_app
    from tests.web.operator_support import review_paths

    app = create_app(Settings(data_dir=folder / "data", models_dir=folder / "models"), uploads)
    paths = review_paths(app)
    client = TestClient(app, follow_redirects=False)
    answers = [(method, path, client.request(method, path).status_code) for method, path in paths]
    uploads.close()
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
