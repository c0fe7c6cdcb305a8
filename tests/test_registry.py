"""The models folder: pointers, promotion, rollback, damage."""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fer.errors import (
    DamagedModelError,
    ManifestError,
    ModelError,
    NoModelError,
    UnknownModelError,
)
from fer.registry import LITERT_FILE, MANIFEST, Registry, new_version_name
from tests.support import make_version


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


def test_names_tell_the_time_in_utc() -> None:
    assert (
        new_version_name("tiny", datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC))
        == "20250102T030405Z-tiny"
    )
    with pytest.raises(ValueError):
        new_version_name("no/path")


def test_an_empty_or_missing_folder(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        registry = Registry(folder)
        assert registry.versions() == [] and registry.candidates() == []
        assert registry.default() is None and registry.history() == []
        with pytest.raises(NoModelError):
            registry.champion()


def test_versions_are_folders_with_a_manifest_oldest_first(registry: Registry) -> None:
    later = make_version(registry.folder, number=5)
    earlier = make_version(registry.folder, number=1)
    (registry.folder / "20250101T000000Z-empty").mkdir()
    (registry.folder / "notes").mkdir()
    (registry.folder / "notes" / MANIFEST).write_text("{}")
    assert registry.versions() == [earlier, later]


def test_the_champion_wins_over_the_default(registry: Registry) -> None:
    shipped = make_version(registry.folder, default=True)
    own = make_version(registry.folder, number=1)
    assert registry.champion() == registry.default() == shipped
    registry.promote(own)
    assert registry.champion() == own and registry.default() == shipped
    assert registry.history() == [shipped, own]


def test_rollback_goes_one_step_at_a_time_to_the_shipped_one(registry: Registry) -> None:
    versions = [make_version(registry.folder, number=n, default=n == 0) for n in range(3)]
    registry.promote(versions[1])
    registry.promote(versions[2])
    assert registry.rollback() == versions[1] == registry.champion()
    assert registry.rollback() == versions[0] == registry.champion()
    with pytest.raises(ModelError, match="no earlier"):
        registry.rollback()
    assert registry.champion() == versions[0]


def test_rollback_passes_over_what_is_gone(registry: Registry) -> None:
    versions = [make_version(registry.folder, number=n, default=n == 0) for n in range(3)]
    registry.promote(versions[1])
    registry.promote(versions[2])
    shutil.rmtree(registry.folder / versions[1])
    assert registry.rollback() == versions[0]


def test_rollback_to_a_damaged_version_is_refused(registry: Registry) -> None:
    first = make_version(registry.folder, default=True)
    second = make_version(registry.folder, number=1)
    registry.promote(second)
    (registry.folder / first / LITERT_FILE).write_bytes(b"")
    with pytest.raises(DamagedModelError):
        registry.rollback()
    assert registry.champion() == second


def test_promoting_twice_is_one_step(registry: Registry) -> None:
    first = make_version(registry.folder, default=True)
    second = make_version(registry.folder, number=1)
    registry.promote(second)
    registry.promote(second)
    registry.promote(second)
    assert registry.history() == [first, second]


def test_what_cannot_serve_is_not_promoted(registry: Registry) -> None:
    first = make_version(registry.folder, default=True)
    damaged = make_version(registry.folder, number=1)
    (registry.folder / damaged / LITERT_FILE).write_bytes(b"")
    unreadable = make_version(registry.folder, number=2)
    (registry.folder / unreadable / MANIFEST).write_text("{}")
    for version, error in (
        (damaged, DamagedModelError),
        (unreadable, ManifestError),
        ("20990101T000000Z-none", UnknownModelError),
        ("../elsewhere", UnknownModelError),
    ):
        with pytest.raises(error):
            registry.promote(version)
    assert registry.champion() == first and registry.history() == []


def test_other_labels_are_promoted_only_on_purpose(registry: Registry) -> None:
    make_version(registry.folder, ("happy", "sad"), default=True)
    same = make_version(registry.folder, ("SAD", "Happy"), number=1)
    other = make_version(registry.folder, ("happy", "sad", "calm"), number=2)
    registry.promote(same)
    with pytest.raises(ModelError, match="change-labels"):
        registry.promote(other)
    assert registry.champion() == same
    registry.promote(other, change_labels=True)
    assert registry.champion() == other


def test_candidates_are_the_best_first(registry: Registry) -> None:
    versions = [make_version(registry.folder, number=n) for n in range(5)]
    (registry.folder / "default").write_text(versions[1] + "\n")
    registry.promote(versions[3])
    registry.promote(versions[0])
    # Champion, the one before it, the default, then the rest, newest first.
    assert registry.candidates() == [versions[n] for n in (0, 3, 1, 4, 2)]
    shutil.rmtree(registry.folder / versions[3])
    assert registry.candidates() == [versions[n] for n in (0, 1, 4, 2)]


def test_garbage_in_a_pointer_is_no_version(registry: Registry) -> None:
    version = make_version(registry.folder, default=True)
    (registry.folder / "champion").write_bytes(b"\xff\xfe garbage")
    assert registry.champion() == version
    (registry.folder / "champion").write_text("../../etc/passwd\nlatest\n")
    assert registry.champion() == version


def test_a_copy_under_another_name_is_refused(registry: Registry) -> None:
    version = make_version(registry.folder)
    copy = version.replace("tiny", "copy")
    (registry.folder / version).rename(registry.folder / copy)
    with pytest.raises(ManifestError, match="says that it is"):
        registry.manifest(copy)


def test_every_file_is_verified(registry: Registry) -> None:
    version = make_version(registry.folder, extra_files={"replay.npz": b"activations"})
    registry.verify(version)
    assert registry.verified_file(version, "replay.npz").read_bytes() == b"activations"
    with pytest.raises(DamagedModelError, match="has no file"):
        registry.verified_file(version, "model.keras")
    (registry.folder / version / "replay.npz").write_bytes(b"activationz")
    with pytest.raises(DamagedModelError, match="differs"):
        registry.verify(version)


def test_removing(registry: Registry) -> None:
    shipped = make_version(registry.folder, default=True)
    champion, spare = (make_version(registry.folder, number=n) for n in (1, 2))
    registry.promote(spare)
    registry.promote(champion)
    for in_service in (shipped, champion):
        with pytest.raises(ModelError, match="in service"):
            registry.remove(in_service)
    registry.remove(spare)
    assert registry.versions() == [shipped, champion]
    assert not (registry.folder / spare).exists()
    assert registry.history() == [shipped, champion]
    assert registry.rollback() == shipped
    with pytest.raises(UnknownModelError):
        registry.remove(spare)


def test_removing_leaves_no_step_from_a_champion_to_itself(registry: Registry) -> None:
    first = make_version(registry.folder, default=True)
    second = make_version(registry.folder, number=1)
    registry.promote(second)
    registry.promote(first)
    registry.remove(second)
    assert registry.champion() == first
    with pytest.raises(ModelError, match="no earlier"):
        registry.rollback()


def test_a_version_that_nothing_points_at_can_be_removed(registry: Registry) -> None:
    """Even where no version serves at all."""
    version = make_version(registry.folder)
    registry.remove(version)
    assert registry.versions() == []


def test_promotions_at_once_lose_none(registry: Registry) -> None:
    make_version(registry.folder, default=True)
    versions = [make_version(registry.folder, number=n) for n in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda version: Registry(registry.folder).promote(version), versions))
    assert sorted(registry.history()[1:]) == versions
    assert not list(registry.folder.glob(".tmp-*"))


class History(RuleBasedStateMachine):
    """Promotions and rollbacks in any order are a walk along one list."""

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.registry = Registry(Path(self.folder.name))
        self.versions = [
            make_version(self.registry.folder, number=n, default=n == 0) for n in range(4)
        ]
        self.expected = [self.versions[0]]

    @rule(which=st.integers(0, 3))
    def promote(self, which: int) -> None:
        self.registry.promote(self.versions[which])
        if self.expected[-1] != self.versions[which]:
            self.expected.append(self.versions[which])

    @precondition(lambda self: len(self.expected) > 1)
    @rule()
    def rollback(self) -> None:
        self.expected.pop()
        assert self.registry.rollback() == self.expected[-1]

    @invariant()
    def champion_is_the_last(self) -> None:
        assert self.registry.champion() == self.expected[-1]
        assert self.registry.candidates()[0] == self.expected[-1]

    def teardown(self) -> None:
        self.folder.cleanup()


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
