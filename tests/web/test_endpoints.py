"""The named endpoints, as programs call them on a running server."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client.exceptions import AppError

from tests.conftest import as_file
from tests.support import SEVEN_LABELS, make_version
from tests.web.serving import ROOT, Server, start


def rows(server: Server, query: str, *values: object) -> list[tuple[Any, ...]]:
    with sqlite3.connect(f"file:{server.data / 'fer.db'}?mode=ro", uri=True) as connection:
        return connection.execute(query, values).fetchall()


def test_an_answer_has_the_promised_form(server: Server, face_jpeg: bytes) -> None:
    before = server.kept()
    answer = server.classify(face_jpeg, False)
    assert set(answer) == {
        *("faces", "sample_ids", "receipt", "model", "notice_version", "request_id")
    }
    (face,) = answer["faces"]
    assert set(face) == {
        *("box", "roll", "label", "certain", "confidence", "probabilities", "quality"),
        "sample_id",
    }
    left, top, width, height = face["box"]
    # The astronaut's face, found by eye in the picture: its middle lies at about (224, 120).
    assert left < 224 < left + width and top < 120 < top + height
    assert set(face["probabilities"]) == set(SEVEN_LABELS)
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert face["label"] == "happy" == max(face["probabilities"], key=face["probabilities"].get)
    assert face["confidence"] == face["probabilities"]["happy"]
    assert face["certain"] is (face["confidence"] >= 0.40)
    assert set(face["quality"]) == {"face_px", "sharpness", "detector_score"}
    assert face["sample_id"] is None and answer["receipt"] is None and answer["sample_ids"] == []
    assert answer["model"] == "20250101T000000Z-tiny"
    assert server.kept() == before


def test_keeping_writes_one_file_and_one_row_and_the_receipt_deletes_them(
    server: Server, face_jpeg: bytes
) -> None:
    before = server.kept()
    answer = server.classify(face_jpeg, True)
    (sample,) = answer["sample_ids"]
    assert answer["faces"][0]["sample_id"] == sample
    path = server.data / "happy" / f"{sample}.jpg"
    assert set(server.kept()) - set(before) == {path}
    query = "SELECT predicted_label, notice_version, source, path FROM samples WHERE id = ?"
    assert rows(server, query, sample) == [
        ("happy", answer["notice_version"], "api", f"happy/{sample}.jpg")
    ]
    client = server.client()
    client.predict(answer["receipt"], "sad", api_name="/feedback")
    events = "SELECT actor_kind, to_label FROM label_events WHERE sample_id = ?"
    assert rows(server, events, sample) == [("visitor", "sad")]
    assert client.predict(answer["receipt"], api_name="/forget") == {"deleted": 1}
    assert not path.exists()
    assert rows(server, "SELECT path, probabilities FROM samples WHERE id = ?", sample) == [
        (None, None)
    ]
    with pytest.raises(AppError, match="Nothing is kept under this receipt"):
        client.predict(answer["receipt"], api_name="/forget")


def test_several_faces_the_largest_or_all(server: Server, two_faces_jpeg: bytes) -> None:
    largest = server.classify(two_faces_jpeg, True)
    widths = [face["box"][2] for face in largest["faces"]]
    assert len(widths) == 2 and widths[0] > widths[1]
    assert [face["sample_id"] for face in largest["faces"]] == [largest["sample_ids"][0], None]
    everyone = server.classify(two_faces_jpeg, True, None, "all")
    assert [face["sample_id"] for face in everyone["faces"]] == everyone["sample_ids"]
    assert len(set(everyone["sample_ids"])) == 2
    client = server.client()
    with pytest.raises(AppError, match="say which"):
        client.predict(everyone["receipt"], "sad", api_name="/feedback")
    client.predict(everyone["receipt"], "other", everyone["sample_ids"][1], api_name="/feedback")
    with pytest.raises(AppError, match="does not belong to this model"):
        client.predict(largest["receipt"], "smirk", api_name="/feedback")
    with pytest.raises(AppError, match="largest, all"):
        server.classify(two_faces_jpeg, True, None, "some")
    assert client.predict(everyone["receipt"], api_name="/forget") == {"deleted": 2}
    client.predict(largest["receipt"], api_name="/forget")


def test_a_program_without_a_cookie_has_a_group_of_its_own(
    server: Server, face_jpeg: bytes, face_image: np.ndarray
) -> None:
    # Other pixels: the same bytes would rightly share a group.
    first = server.classify(face_jpeg, True)
    server.clients.clear()
    second = server.classify(as_file(face_image // 2 * 2, "PNG"), True)
    query = "SELECT DISTINCT group_id FROM samples WHERE id IN (?, ?)"
    assert len(rows(server, query, first["sample_ids"][0], second["sample_ids"][0])) == 2
    for answer in (first, second):
        server.client().predict(answer["receipt"], api_name="/forget")


def test_the_indonesian_page_answers_in_indonesian(server: Server) -> None:
    with pytest.raises(AppError, match="Tidak ada yang disimpan"):
        server.client("/id/").predict("AAAA-BBBB-CCCC-DDDD", api_name="/forget")


def test_nothing_of_a_picture_stays_in_the_temporary_folder(
    server: Server, face_jpeg: bytes
) -> None:
    server.classify(face_jpeg, False)
    assert server.uploaded() == []


def test_models_change_while_serving_and_samples_survive_a_restart(
    tmp_path: Path, face_jpeg: bytes
) -> None:
    """Off, a model named, a promotion that is noticed, `kill -9`, and a start with the rest."""
    first = make_version(tmp_path / "models", favourite="sad", default=True)
    second = make_version(tmp_path / "models", favourite="fear", number=1)
    server = start(tmp_path)
    try:
        kept = server.classify(face_jpeg, True)
        assert (kept["faces"][0]["label"], kept["model"]) == ("sad", first)
        assert server.classify(face_jpeg, False, second)["faces"][0]["label"] == "fear"
        (tmp_path / "models" / "champion").write_text(f"{first}\n{second}\n")
        for _ in range(50):
            if server.classify(face_jpeg, False)["model"] == second:
                break
        else:
            pytest.fail("the promotion was not noticed")
        server.stop(9)
        left = list((tmp_path / "tmp").glob("fer-*/uploads-*"))
        assert left
        server = start(tmp_path, FER_COLLECT="off")
        assert not any(folder.exists() for folder in left)
        assert len(server.kept()) == 1
        refused = server.classify(face_jpeg, True)
        assert refused["receipt"] is None and refused["sample_ids"] == []
        assert server.client().predict(kept["receipt"], api_name="/forget") == {"deleted": 1}
        assert server.kept() == []
        assert "Traceback" not in server.log
    finally:
        server.stop()


def test_without_a_model_the_server_starts_and_says_so(tmp_path: Path, face_jpeg: bytes) -> None:
    (tmp_path / "models").mkdir()
    server = start(tmp_path)
    try:
        ready = httpx.get(server.url + "/readyz", timeout=30)
        assert ready.status_code == 503 and ready.json()["model"] is None
        assert httpx.get(server.url + "/", timeout=30).status_code == 200
        with pytest.raises(AppError, match="No model can serve"):
            server.classify(face_jpeg, False)
        version = make_version(tmp_path / "models", favourite="happy", default=True)
        for _ in range(50):
            ready = httpx.get(server.url + "/readyz", timeout=30)
            if ready.status_code == 200:
                break
        assert ready.json() == {"ready": True, "model": version, "warnings": []}
    finally:
        server.stop()


def test_the_shipped_model_sees_the_astronaut_smile(tmp_path: Path, face_jpeg: bytes) -> None:
    if not (ROOT / "models" / "default").exists():
        pytest.skip("no model is shipped yet")
    server = start(tmp_path, models=ROOT / "models")
    try:
        answer = server.classify(face_jpeg, True)
        assert answer["faces"][0]["label"] == "happy"
        assert len(list((server.data / "happy").glob("*.jpg"))) == 1
        assert rows(server, "SELECT count(*) FROM samples") == [(1,)]
    finally:
        server.stop()
