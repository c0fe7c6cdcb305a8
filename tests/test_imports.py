"""Who may import whom, and what must stay out of the web process."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.web.serving import ROOT, environment

GROUND = {"__version__", "errors", "labels", "config", "manifest", "registry", "files"}

#: Which rooms a room may import, besides itself and the ground.
ROOMS = {
    "vision": set(),
    "collection": {"vision"},
    "learning": {"vision", "collection"},
    "web": {"vision", "collection"},
}

#: The only places of the heavy libraries, below fer/.
DOORS = {
    "mediapipe": ("vision/faces.py",),
    "ai_edge_litert": ("vision/classifier.py",),
    "keras": ("learning/",),
    "gradio": ("web/",),
    "sqlalchemy": ("collection/",),
}

#: Never below these folders, wherever the import stands in the file.
FORBIDDEN = {
    "web": {"tensorflow", "keras"},
    "vision": {"tensorflow", "keras", "gradio", "sqlalchemy"},
    "collection": {"tensorflow", "keras", "gradio", "mediapipe"},
    "learning": {"gradio"},
}

SOURCES = sorted((ROOT / "fer").rglob("*.py"))


def imports(path: Path) -> list[tuple[str, bool]]:
    """Every imported module of a file, and whether its import runs when the file is imported."""
    found = []

    def walk(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend((name.name, top) for name in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
                found.extend((f"{child.module}.{name.name}", top) for name in child.names)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            walk(child, top and not inside)

    walk(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


def test_the_walk_sees_imports(tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    file.write_text("import a.b\nfrom c import d\ndef f():\n    import e\n")
    assert imports(file) == [("a.b", True), ("c.d", True), ("e", False)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_house(path: Path) -> None:
    inner = path.relative_to(ROOT / "fer")
    room = inner.parts[0] if len(inner.parts) > 1 else ""
    for module, top in imports(path):
        parts = module.split(".")
        if parts[0] == "fer" and len(parts) > 1:
            target = parts[1]
            if not room and inner.stem in GROUND:
                assert target in GROUND, f"{inner}: the ground stands on nothing, not on {module}"
            elif room in ROOMS and target != room:
                assert target in GROUND | ROOMS[room], f"{inner} must not import {module}"
        if room in FORBIDDEN:
            assert parts[0] not in FORBIDDEN[room], f"{inner} must not import {module}"
        for library, doors in DOORS.items():
            # Commands compose: what they import inside a function is no second door.
            if parts[0] == library and top:
                assert str(inner).startswith(doors), f"{inner}: {library} belongs to {doors}"


def test_relative_imports_are_not_used() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path


def test_packages_import_nothing() -> None:
    for path in SOURCES:
        if path.name == "__init__.py":
            assert imports(path) == [], path


def test_the_server_that_read_a_picture_has_no_tensorflow(tmp_path: Path, face_jpeg: bytes) -> None:
    """The whole server is built, a face is read and kept; then its modules are looked at."""
    (tmp_path / "face.jpg").write_bytes(face_jpeg)
    program = """
import sys
from pathlib import Path
from tests.support import make_version
make_version(Path("models"), favourite="happy", default=True)
from fer.config import Settings
from fer.web.environment import prepare
from fer.web.uploads import UploadFolder
uploads = UploadFolder(Path("uploads"))
prepare(uploads.path)
from fer.web.server import create_app
app = create_app(Settings(data_dir=Path("data"), models_dir=Path("models")), uploads)
services = app.state.services
services.start()
from fer.web.desk import Visitor
answer = services.desk.classify(Path("face.jpg").read_bytes(), Visitor("s", "page"), keep=True)
assert answer.receipt, answer.trouble
services.stop()
loaded = {name.split(".")[0] for name, module in sys.modules.items() if module is not None}
print("loaded", sorted(loaded & {"tensorflow", "keras", "jax", "mediapipe", "gradio"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "loaded ['gradio', 'mediapipe']" in done.stdout
