"""What a clone promises before it runs: exact pins, wide enough ranges, nothing of one machine."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fer

ROOT = Path(fer.__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-dev.lock")

#: Asked for by a dependency, left out on purpose: .ci/lock says why.
LEFT_OUT = {
    "backports-strenum",
    "jax",
    "jaxlib",
    "libclang",
    "opencv-contrib-python",
    "sentencepiece",
    "sounddevice",
    "tensorflow-io-gcs-filesystem",
}


def lock(name: str) -> dict[str, str]:
    """Version by package name; every line is checked to be `name==version`."""
    pins = {}
    for line in (ROOT / name).read_text().splitlines():
        match = re.fullmatch(r"([a-z0-9][a-z0-9._-]*)==([0-9][A-Za-z0-9.+!]*)", line)
        assert match, f"{name}: {line!r} is no exact pin"
        package = canonicalize_name(match[1])
        assert package not in pins, f"{name}: {package} twice"
        pins[package] = match[2]
    return pins


def wanted() -> list[tuple[str, Requirement]]:
    """Every requirement of pyproject.toml for this platform, with the extra it belongs to."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    found = [(extra, Requirement(line)) for extra, lines in groups.items() for line in lines]
    return [(extra, r) for extra, r in found if r.marker is None or r.marker.evaluate()]


def tracked_texts() -> list[tuple[str, str]]:
    """Path and text of each file that git tracks; pictures and models are left out."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so there is no list of tracked files")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    texts = []
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        data = path.read_bytes() if path.is_file() else b""
        if b"\0" not in data:
            texts.append((name, data.decode("utf-8")))
    assert len(texts) > 20, "the listing of tracked files looks wrong"
    return texts


def test_every_requirement_is_pinned_within_its_range() -> None:
    run, dev = (lock(name) for name in LOCKS)
    for extra, requirement in wanted():
        name = canonicalize_name(requirement.name)
        pins = {**run, **dev} if extra in ("dev", "mlflow", "fuzz") else run
        assert name in pins, f"{name} is in no lock that is installed for it"
        assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]}: {requirement}"


def test_the_locks_share_no_package() -> None:
    run, dev = (lock(name) for name in LOCKS)
    assert not run.keys() & dev.keys()


def test_what_must_not_be_installed_is_in_no_lock() -> None:
    run, dev = (lock(name) for name in LOCKS)
    assert not run.keys() & LEFT_OUT
    # Tests train on JAX too; nobody else gets it.
    assert not dev.keys() & LEFT_OUT - {"jax", "jaxlib"}


def test_the_locks_are_complete() -> None:
    """Every requirement of an installed package is pinned, but for those left out on purpose."""
    from importlib.metadata import PackageNotFoundError, requires

    pins = lock(LOCKS[0]) | lock(LOCKS[1])
    missing = set()
    for package in pins:
        try:
            lines = requires(package) or []
        except PackageNotFoundError:
            pytest.skip(f"{package} is not installed: this environment is not made from the locks")
        for requirement in map(Requirement, lines):
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            name = canonicalize_name(requirement.name)
            if name in LEFT_OUT:
                continue
            if name not in pins or not requirement.specifier.contains(pins[name], prereleases=True):
                missing.add(f"{package}: {requirement}")
    assert not missing


def test_no_address_of_a_package_registry() -> None:
    # Put together here, so that this file does not hold what it looks for.
    hosts = [
        ".".join(parts)
        for parts in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("npmjs", "com"),
            ("deb", "debian", "org"),
            ("artifact", "registry"),
            ("pkg", "dev"),
        )
    ]
    found = [f"{name}: {host}" for name, text in tracked_texts() for host in hosts if host in text]
    assert not found


def test_no_path_of_one_machine() -> None:
    # A home folder, or the folder that this checkout happens to lie in.
    pattern = re.compile(r"(?<![\w.$}])/(?:root|Users)/\w")
    here = str(ROOT) + "/"
    found = []
    for name, text in tracked_texts():
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line) or here in line:
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert not found


def test_each_target_of_the_makefile_is_listed() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split())  # type: ignore[index]
    listing = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert {line.split()[0] for line in listing.splitlines()} == phony


def test_a_wrong_python_is_refused_in_one_sentence(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    run = subprocess.run(
        ["make", "--no-print-directory", f"VENV={tmp_path}/venv", f"PYTHON={python}", "install"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert "Python 3.11 or 3.12 is needed" in run.stderr
    assert not (tmp_path / "venv").exists()


def test_installing_twice_does_nothing_the_second_time(tmp_path: Path) -> None:
    """make compares stamps and files; nothing is installed here."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "pip").touch()

    def planned() -> str:
        return subprocess.run(
            ["make", "--no-print-directory", "--dry-run", f"VENV={venv}", "install-dev"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    assert "-r requirements.lock" in planned()
    (venv / ".installed").touch()
    assert "-r requirements.lock" not in planned()
    assert "-r requirements-dev.lock" in planned()
    (venv / ".installed-dev").touch()
    assert "install" not in planned().replace("install-dev", "")
