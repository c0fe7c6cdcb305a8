"""Manifests: what is read back is what was written, and nothing impossible gets in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer.errors import ManifestError
from fer.manifest import Framing, Manifest, check_version_name, read_manifest

VERSION = "20250101T030000Z-mobilenetv2-ferplus"


def document(**changes: Any) -> dict[str, Any]:
    return {
        "version": VERSION,
        "name": "mobilenetv2-ferplus",
        "created_at": "2025-01-01T03:00:00Z",
        "architecture": "mobilenet_v2",
        "labels": ["happy", "sad"],
        "crop_size": 48,
        "image_size": 96,
        "files": {"model.tflite": "0" * 64},
        **changes,
    }


def written(folder: Path, content: dict[str, Any] | str | bytes) -> Path:
    path = folder / "manifest.json"
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_manifest_is_read(tmp_path: Path) -> None:
    manifest = read_manifest(written(tmp_path, document()))
    assert manifest.version == VERSION
    assert manifest.label_set.names == ("happy", "sad")
    assert manifest.temperature == 1 and manifest.framing == Framing(scale=1.0, lift=0.1)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    manifest = Manifest.model_validate(
        document(
            framing={"scale": 1.2, "lift": -0.05},
            metrics={"accuracy": 0.7},
            data=[{"name": "FER2013", "terms": "research", "pictures": 3}],
            not_for="hiring",
        )
    )
    assert read_manifest(written(tmp_path, manifest.model_dump_json())) == manifest


@pytest.mark.parametrize(
    ("change", "named"),
    (
        ({"version": "latest"}, "version"),
        ({"version": "../../etc"}, "version"),
        ({"labels": ["happy"]}, "labels"),
        ({"labels": ["happy", "HAPPY"]}, "labels"),
        ({"labels": ["happy", "a/b"]}, "labels"),
        ({"crop_size": 0}, "crop_size"),
        ({"image_size": 100_000}, "image_size"),
        ({"temperature": 0}, "temperature"),
        ({"framing": {"scale": -1}}, "framing.scale"),
        ({"framing": {"zoom": 1}}, "framing.zoom"),
        ({"files": {"../model.tflite": "0" * 64}}, "files"),
        ({"files": {".hidden": "0" * 64}}, "files"),
        ({"files": {"manifest.json": "0" * 64}}, "files"),
        ({"files": {"model.tflite": "0" * 63}}, "files"),
        ({"files": {"model.tflite": "Z" * 64}}, "files"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"created_at": "yesterday"}, "created_at"),
    ),
)
def test_impossible_manifests_are_refused_and_say_where(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(written(tmp_path, document(**change)))
    assert f" {named}: " in caught.value.message


@pytest.mark.parametrize("missing", ("version", "labels", "crop_size", "files"))
def test_missing_fields(tmp_path: Path, missing: str) -> None:
    content = document()
    del content[missing]
    with pytest.raises(ManifestError, match=missing):
        read_manifest(written(tmp_path, content))


@pytest.mark.parametrize("content", ("", "{", "[]", "null", b"\xff\xfe\x00"))
def test_what_is_no_manifest(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(ManifestError):
        read_manifest(written(tmp_path, content))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ManifestError):
        read_manifest(tmp_path / "manifest.json")


def test_a_newer_format_asks_for_a_newer_program(tmp_path: Path) -> None:
    """Even where it has fields that this program does not know."""
    with pytest.raises(ManifestError, match="newer version"):
        read_manifest(written(tmp_path, document(format=2)))
    with pytest.raises(ManifestError, match="newer version"):
        read_manifest(written(tmp_path, document(format=2, a_field_of_the_future=1)))


@pytest.mark.parametrize("name", (VERSION, "20991231T235959Z-a", "20250101T000000Z-a.b_c-1"))
def test_version_names(name: str) -> None:
    assert check_version_name(name) == name


@given(st.text(max_size=80))
def test_no_path_is_a_version_name(text: str) -> None:
    for name in (text, f"20250101T000000Z-{text}/..", f"../{text}", f"{VERSION}\n"):
        try:
            check_version_name(name)
        except ValueError:
            continue
        assert "/" not in name and "\\" not in name and "\n" not in name
