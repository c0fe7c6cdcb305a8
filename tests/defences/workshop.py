"""Copies of the program in which defences are taken away, one at a time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.defences.table import ROOT, Defence, Edit

#: What may be changed: by us, or by a program whose defences against writing there are gone.
_COPIED = ("fer", "tests", "deploy", "models", "app.py", "retrain.py", "pyproject.toml")
_LINKED = ("docs", "benchmarks")

#: Seconds that one run may take; without its defence a test may wait for ever.
_LONGEST = 600

#: Said by `tests/web/serving.py`: then the test did not get as far as its attack.
_NO_SERVER = ("the server did not answer", "Timeout (>")


@dataclass(frozen=True)
class Outcome:
    """What became of one test: `passed`, `failed` or `skipped`, where, and by what."""

    id: str
    when: str
    outcome: str
    kinds: tuple[str, ...]
    said: str

    def failed_by(self, kind: str) -> bool:
        """Whether the test itself failed: by an assertion, or by the exception `kind`.

        `Failed` is what pytest raises where an exception that was expected did not come.
        """
        own = self.when == "call" and self.outcome == "failed"
        by = {"AssertionError", "Failed", kind}
        return own and bool(by & set(self.kinds)) and not self.said.startswith(_NO_SERVER)


class Copy:
    """A copy of the program.

    Args:
        folder: where; made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("*.tmp"))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, folder / name)
        for name in _LINKED:
            (folder / name).symlink_to(ROOT / name)
        self._forking = subprocess.Popen(
            [sys.executable, str(folder / "tests" / "defences" / "forking.py")],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that runs the tests."""
        self._forking.communicate()

    @contextmanager
    def without(self, edits: Iterable[Edit]) -> Iterator[None]:
        """The copy with every one of `edits` made; afterwards it is as it was."""
        before: list[tuple[Path, bytes, os.stat_result]] = []
        try:
            for edit in edits:
                path = self.folder / edit.file
                before.append((path, path.read_bytes(), path.stat()))
                path.write_text(edit.apply(path.read_text("utf-8")), "utf-8")
            yield
        finally:
            for path, contents, status in reversed(before):
                path.write_bytes(contents)
                # With its time: what was compiled from it still fits.
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def test(self, ids: Sequence[str], seconds: float = _LONGEST) -> tuple[list[Outcome], str]:
        """Run tests of the copy, on the copy.

        Returns:
            What became of each, and what pytest wrote.

        Raises:
            AssertionError: pytest did not get to the end, or could not collect the tests, or
                tested another program than the copy.
        """
        witness = self.folder / "witness.json"
        witness.unlink(missing_ok=True)
        (self.folder / "tmp").mkdir(exist_ok=True)
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("FER_", "PYTEST_"))}
        env = plain | {
            "PYTHONPATH": str(self.folder),
            # A changed file is compiled anew each time; nothing of it stays.
            "PYTHONDONTWRITEBYTECODE": "1",
            "DEFENCES_WITNESS": str(witness),
            "TMPDIR": str(self.folder / "tmp"),
        }
        arguments = ["-q", "--tb=short", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        # SQLite alone, as everywhere without a server for tests; nothing may be skipped.
        arguments += ["-m", "not postgres", "--disable-warnings"]
        arguments += ["-p", "tests.defences.witness", "--rootdir", str(self.folder), *ids]
        output = self.folder / "output"
        code = self._run(
            {
                "folder": str(self.folder),
                "output": str(output),
                "env": env,
                "seconds": seconds,
                "arguments": arguments,
            }
        )
        said = output.read_text("utf-8", "replace")
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)
        assert code is not None, f"the tests did not end within {seconds} s:\n{said[-4000:]}"
        assert code in (0, 1) and witness.exists(), said[-4000:]
        seen = json.loads(witness.read_text("utf-8"))
        assert seen["collecting"] == [], seen["collecting"]
        assert Path(seen["program"]).is_relative_to(self.folder.resolve()), seen["program"]
        outcomes = [
            Outcome(one["id"], one["when"], one["outcome"], tuple(one["kinds"]), one["said"])
            for one in seen["tests"]
        ]
        return outcomes, said

    def _run(self, job: dict[str, object]) -> int | None:
        asked, answers = self._forking.stdin, self._forking.stdout
        assert asked is not None and answers is not None
        asked.write(json.dumps(job) + "\n")
        asked.flush()
        code = json.loads(answers.readline())
        return None if code is None else int(code)


def of_test(outcomes: Iterable[Outcome], node: str) -> list[Outcome]:
    """Those of a test, whatever its parameters."""
    return [one for one in outcomes if one.id == node or one.id.startswith(node + "[")]


def take_away(copy: Copy, defence: Defence) -> str:
    """Run the tests of a defence without it; how each of them failed.

    Raises:
        AssertionError: a test passed all the same, or failed by something else than what it
            demands, such as an import, a fixture or a server that did not start.
    """
    with copy.without(defence.edits):
        outcomes, output = copy.test(defence.tests)
    told = []
    for node in defence.tests:
        own = of_test(outcomes, node)
        failed = [one for one in own if one.failed_by(defence.by)]
        odd = [one for one in own if one.when != "call" or one.outcome == "skipped"]
        assert own and not odd, f"{node} did not run:\n{output[-4000:]}"
        assert failed, f"{node} does not notice that {defence.name} is gone:\n{output[-4000:]}"
        said = " ".join(failed[0].said.split())[:160]
        told.append(f"{len(failed)} of {len(own)} failed: {node}: {said}")
    return "\n".join(told)


def all_pass(copy: Copy, defences: Iterable[Defence]) -> None:
    """Run every test of `defences` on an unchanged copy.

    Raises:
        AssertionError: one did not pass.
    """
    ids = sorted({node for defence in defences for node in defence.tests})
    outcomes, output = copy.test(ids, seconds=2 * _LONGEST)
    bad = sorted({one.id for one in outcomes if one.outcome != "passed"})
    missing = [node for node in ids if not of_test(outcomes, node)]
    assert not bad and not missing, f"{bad} {missing}\n{output[-4000:]}"
