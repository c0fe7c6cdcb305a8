"""What lies in deploy/ agrees with the program, with the tools that read it, and with the guide."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fer.config import Settings
from fer.registry import Registry
from tests.support import make_version
from tests.web.serving import ROOT, environment

DEPLOY = ROOT / "deploy"
GUIDE = ROOT / "docs" / "deploying.md"
UNITS = tuple(sorted(path.name for path in DEPLOY.glob("fer*.service"))) + tuple(
    sorted(path.name for path in DEPLOY.glob("fer*.timer"))
)


def env_file() -> dict[str, str]:
    """deploy/fer.env as a shell reads it."""
    run = subprocess.run(
        ["sh", "-c", "set -a; . deploy/fer.env; env"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
        text=True,
    )
    pairs = (line.split("=", 1) for line in run.stdout.splitlines())
    return {name: value for name, value in pairs if name.startswith("FER_")}


def test_the_settings_file_says_the_same_to_systemd_and_to_a_shell() -> None:
    lines = (DEPLOY / "fer.env").read_text(encoding="utf-8").splitlines()
    written = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    # Quoted, which both take off.
    assert {name: shlex.split(value)[0] for name, value in written.items()} == env_file()
    assert all(value.startswith('"') for value in written.values())


def test_the_settings_file_has_settings_that_exist_and_asks_visitors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in env_file().items():
        assert name.removeprefix("FER_").lower() in Settings.model_fields, name
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.root_path == "/fer"
    assert settings.effective_collect == "opt-in"
    assert settings.trusted_proxies == settings.host == "127.0.0.1"
    # One of the two starts runs, not both.
    assert settings.retrain_schedule == "off"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for name in UNITS:
        text = (DEPLOY / name).read_text(encoding="utf-8")
        # Programs that exist on this machine; nothing else is changed.
        text = text.replace("/opt/fer/.venv/bin/python", sys.executable)
        text = text.replace("/opt/fer/.venv/bin/fer", str(Path(sys.executable).with_name("fer")))
        text = text.replace("/opt/fer/deploy/", f"{DEPLOY}/")
        (tmp_path / name).write_text(text, encoding="utf-8")
    run = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name in UNITS)],
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith("service")])
def test_the_services_are_locked_up(name: str) -> None:
    """systemd's own measure of exposure, from 0 to 10; an unhardened service has 9.6."""
    run = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(DEPLOY / name)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-300:]


@pytest.mark.skipif(shutil.which("caddy") is None, reason="no caddy here")
def test_caddy_takes_its_file() -> None:
    run = subprocess.run(
        ["caddy", "adapt", "--validate", "--config", str(DEPLOY / "Caddyfile")],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_the_proxies_take_what_the_page_takes() -> None:
    """A picture of FER_MAX_IMAGE_MB passes, with room for what surrounds it."""
    largest = int(Settings.model_fields["max_image_mb"].default * 1_000_000) + 16 * 1024
    nginx = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    (limit,) = set(re.findall(r"^    client_(?:max_body|body_buffer)_size (\d+)k;", nginx, re.M))
    caddy = (DEPLOY / "Caddyfile").read_text(encoding="utf-8")
    (other,) = re.findall(r"max_size (\d+)$", caddy, re.M)
    for bytes_taken in (int(limit) * 1024, int(other)):
        assert largest <= bytes_taken <= 1.1 * largest


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of each instruction of the Containerfile, continued lines joined."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def test_the_container_is_made_of_files_that_git_has() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    sources = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert len(sources) >= 8
    for source in sources:
        assert any(f"{name}/".startswith(f"{source}/") for name in tracked), source
    copied = {source.split("/")[0] for source in sources}
    assert {"fer", "models", "app.py", "retrain.py", "requirements.lock"} <= copied


def test_the_container_is_pinned_and_not_root() -> None:
    found = instructions()
    bases = {rest.split()[0] for word, rest in found if word == "FROM"}
    (base,) = bases
    version = re.fullmatch(r"docker\.io/library/python:(3\.\d+)-slim-bookworm", base)
    assert version is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # The Python that the lock was made for.
    assert f"--python-version {version[1]} " in (ROOT / ".ci" / "lock").read_text(encoding="utf-8")
    assert project["requires-python"] == ">=3.11,<3.13"
    installs = [rest for word, rest in found if word == "RUN" and " install " in rest]
    pips = [rest for rest in installs if "-m pip" in rest]
    assert len(pips) == 2
    assert all("--no-deps" in rest for rest in pips)
    users = [rest for word, rest in found if word == "USER"]
    assert users == ["10001:10001"]
    job = (DEPLOY / "fer-retrain.kubernetes.yaml").read_text(encoding="utf-8")
    assert "runAsUser: 10001" in job
    (probe,) = [rest for word, rest in found if word == "HEALTHCHECK"]
    assert "/healthz" in probe


def test_the_containers_settings_exist() -> None:
    settings = " ".join(rest for word, rest in instructions() if word == "ENV")
    named = set(re.findall(r"\bFER_([A-Z_]+)=", settings))
    assert {"HOST", "DATA_DIR", "MODELS_DIR", "COLLECT"} <= named
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_models_of_an_upgrade_are_taken_and_the_champion_stays(tmp_path: Path) -> None:
    shipped, served = tmp_path / "shipped", tmp_path / "served"
    old = make_version(shipped, name="old", default=True)
    command = [str(DEPLOY / "take-models"), str(shipped), str(served)]
    subprocess.run(command, check=True)
    own = make_version(served, name="own", number=1)
    Registry(served).promote(own)
    (served / old / "note").write_text("mine", encoding="utf-8")
    new = make_version(shipped, name="new", number=2, default=True)
    # What a start that was cut off has left.
    (served / f".taking-{new}").mkdir()
    for _ in range(2):
        subprocess.run(command, check=True)
        assert Registry(served).versions() == [old, own, new]
        assert Registry(served).champion() == own
        assert (served / "default").read_text(encoding="utf-8").strip() == new
        assert (served / old / "note").exists()
        assert not list(served.glob(".taking-*"))


def test_the_administrators_command_takes_the_settings_along(tmp_path: Path) -> None:
    """Without the change of user, for which one has to be root and `fer` has to exist."""
    script = (DEPLOY / "fer").read_text(encoding="utf-8")
    settings = tmp_path / "fer.env"
    settings.write_text('FER_RETENTION_DAYS="9"\nFER_PORT="7001"\n', encoding="utf-8")
    changed = script.replace("/etc/fer.env", str(settings)).replace(
        '"$(id -un)" != fer', '"$(id -un)" = nobody-at-all'
    )
    copy = tmp_path / "command"
    copy.write_text(changed, encoding="utf-8")
    home = tmp_path / "home"
    home.mkdir()
    run = subprocess.run(
        ["sh", str(copy), "settings", "--json"],
        env={
            **environment(),
            "FER_HOME": str(home),
            "FER_PROGRAM": str(Path(sys.executable).with_name("fer")),
        },
        check=True,
        capture_output=True,
        text=True,
    )
    assert re.search(r'"(?:FER_RETENTION_DAYS|retention_days)"[^}]*9', run.stdout)


@pytest.mark.parametrize("name", ["fer", "take-models", "container-start"])
def test_scripts_are_shell_and_may_be_started(name: str) -> None:
    subprocess.run(["sh", "-n", str(DEPLOY / name)], check=True)
    assert os.access(DEPLOY / name, os.X_OK)


def test_the_guides_commands_are_shell_and_its_files_are_there() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    assert len(blocks) >= 8
    for block in blocks:
        run = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert run.returncode == 0, f"{block}\n{run.stderr}"
    named = set(re.findall(r"(?<![\w/.])(?:/opt/fer/)?(deploy/[A-Za-z.-]+\b)", text))
    assert {"deploy/nginx.conf", "deploy/fer.service", "deploy/fer.env"} <= named
    for name in named:
        assert (ROOT / name).exists(), name
