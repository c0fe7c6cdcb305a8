"""The console's API: what a face says, decisions, history, grid, board, models, transfer."""

from __future__ import annotations

import io
import json
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fer.collection.views import SampleView
from fer.errors import RetrainingError
from fer.labels import LabelSet
from fer.learning.job import Options
from fer.manifest import Framing
from fer.vision.faces import FaceBox
from fer.vision.faces import crop_face as cut
from fer.web.operator_board import FEWEST, more_needed
from fer.web.operator_job import RetrainingJob
from fer.web.operator_texts import load_console
from fer.web.operator_views import crop_geometry, label_keys
from fer.web.texts import LANGUAGES
from tests.support import make_version
from tests.web.operator_support import Console, drawn_sample, running_console

SITTING = "sitting-of-a-test"

#: What a face to be decided blind may say of itself.
BLIND_FIELDS = {
    "id", "row_version", "blind", "queue", "created_at", "model_version", "face_px", "sharpness",
    "detector_score", "crop",
}  # fmt: skip


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    with running_console(tmp_path, audit_share=0.0) as console:
        console.operator("ada", "admin")
        console.operator("grace")
        yield console


def test_a_blind_face_says_nothing_that_was_said_about_it(tmp_path: Path) -> None:
    with running_console(tmp_path, audit_share=0.9) as console:
        console.operator("ada")
        console.fill(12)
        client = console.signed_in("ada")
        blind = [face for face in client.faces(12) if face["blind"]]
        assert blind
        rows = console.samples()
        for face in blind:
            assert set(face) == BLIND_FIELDS
            seen = [client.get(f"samples/{face['id']}"), client.get(f"samples?id={face['id']}")]
            for answer in [json.dumps(face), *(one.text for one in seen)]:
                assert f'"{rows[face["id"]].predicted_label}"' not in answer
        # Nor do headers of the picture, whose folder is the prediction.
        picture = client.http.get(f"/review/image/{blind[0]['id']}")
        assert str(rows[blind[0]["id"]].predicted_label) not in str(picture.headers)
        refused = client.decide(blind[0], "confirm")
        assert refused.status_code == 422
        told = client.decide(blind[0], "relabel", "happy").json()
        assert told["prediction"] == rows[blind[0]["id"]].predicted_label


def test_a_decision_and_its_way_back_are_two_events(console: Console) -> None:
    console.fill(1)
    client = console.signed_in("ada")
    (face,) = client.faces(1)
    other = next(label for label, _ in face["probabilities"][1:])
    assert client.decide(face, "relabel", other).status_code == 200
    back = client.post("undo", {"sitting": SITTING}).json()
    assert back["sample"]["id"] == face["id"]
    assert back["sample"]["row_version"] == face["row_version"] + 2
    assert [(e.kind, e.actor, e.to_label) for e in console.events()] == [
        ("relabel", "ada", other),
        ("undo", "ada", face["predicted_label"]),
    ]
    assert client.post("undo", {"sitting": SITTING}).json()["sample"] is None


def test_a_repeated_request_counts_once(console: Console) -> None:
    console.fill(2)
    client = console.signed_in("ada")
    faces = client.faces(2)
    for face in faces:
        client.decide(face, "reject")
    body = {
        "sample_id": faces[1]["id"],
        "row_version": faces[1]["row_version"],
        "kind": "reject",
        "order": "uncertain",
        "sitting": SITTING,
    }
    assert client.post("decide", body).status_code == 409
    # The answer was lost on its way: the page says that it asks again.
    assert client.post("decide", {**body, "again": True}).status_code == 200
    undo = {"sitting": SITTING, "sample_id": faces[1]["id"]}
    client.post("undo", undo)
    repeated = client.post("undo", {**undo, "again": True}).json()
    assert repeated["sample"]["id"] == faces[1]["id"]
    assert [e.kind for e in console.events()] == ["reject", "reject", "undo"]


def test_a_decision_on_a_changed_row_is_refused_with_what_changed(console: Console) -> None:
    console.fill(1)
    ada, grace = console.signed_in("ada"), console.signed_in("grace")
    (face,) = ada.faces(1)
    assert grace.decide(face, "reject").status_code == 200
    refused = ada.decide(face, "unsure")
    assert refused.status_code == 409
    assert refused.json()["details"]["decided_by"] == "grace"
    again = ada.post("decide", {
        "sample_id": face["id"], "row_version": face["row_version"], "kind": "unsure",
        "order": "uncertain", "sitting": SITTING, "again": True,
    })  # fmt: skip
    assert again.status_code == 409, "somebody else's decision is not ours, asked again or not"


def test_labels_that_no_model_has_are_refused(console: Console) -> None:
    console.fill(1)
    client = console.signed_in("ada")
    (face,) = client.faces(1)
    for label in ("../../etc", "<img src=x>", "'; DROP TABLE samples; --", "joy"):
        body = {
            "sample_id": face["id"], "row_version": face["row_version"], "kind": "relabel",
            "label": label, "order": "uncertain", "sitting": SITTING, "model": "../" + label,
        }  # fmt: skip
        assert client.post("decide", body).status_code == 422
    assert console.events() == []


def test_ids_that_are_none_are_refused(console: Console) -> None:
    client = console.signed_in("ada")
    for path in ("image/../../fer.db", "image/%2e%2e%2ffer.db", "image/" + "a" * 32):
        answer = client.http.get(f"/review/{path}")
        assert answer.status_code == 404, path
    assert client.get("samples?id=%27%20OR%201=1").status_code == 422


def test_leases_are_kept_and_given_back(console: Console) -> None:
    console.fill(3)
    ada, grace = console.signed_in("ada"), console.signed_in("grace")
    ids = [face["id"] for face in ada.faces(3)]
    assert grace.faces(3) == []
    assert sorted(ada.post("leases/renew", {"ids": ids}).json()["held"]) == sorted(ids)
    assert grace.post("leases/renew", {"ids": ids}).json()["held"] == []
    ada.post("leases/free", {"ids": ids[:2], "csrf": ada.csrf})
    assert {face["id"] for face in grace.faces(3)} == set(ids[:2])


def test_a_picture_is_shown_whole_or_small_and_stored_nowhere(console: Console) -> None:
    console.fill(1, side=200)
    client = console.signed_in("grace")
    whole = client.http.get(f"/review/image/{console.ids[0]}")
    assert whole.headers["cache-control"] == "private, no-store"
    assert whole.content == console.store.picture(console.ids[0])
    small = client.http.get(f"/review/image/{console.ids[0]}?side=96")
    assert Image.open(io.BytesIO(small.content)).size == (96, 96)
    assert client.http.get(f"/review/image/{console.ids[0]}?side=90000").status_code == 422


def test_restoring_goes_back_to_any_state(console: Console) -> None:
    console.fill(1)
    client = console.signed_in("grace")
    (face,) = client.faces(1)
    first = client.decide(face, "reject").json()
    face["row_version"] = first["row_version"]
    client.decide(face, "relabel", "sad")
    client.post("restore", {"sample_id": face["id"], "event_id": first["event_id"]})
    assert console.samples()[face["id"]].status == "rejected"
    client.post("restore", {"sample_id": face["id"], "event_id": None})
    assert console.samples()[face["id"]].status == "pending"
    history = client.get(f"samples/{face['id']}").json()
    assert [e["kind"] for e in history["events"]] == ["reject", "relabel", "restore", "restore"]


def test_the_grid_filters_decides_for_many_and_undoes_them_together(console: Console) -> None:
    for seed, (label, confidence) in enumerate([("happy", 0.9), ("happy", 0.4), ("sad", 0.9)]):
        sample = drawn_sample(label, confidence, seed, console.model, side=64)
        console.store.keep([sample], group_id=f"g{seed}")
    client = console.signed_in("grace")
    chosen = client.get("samples", params={"label": "happy", "at_least": 50}).json()["samples"]
    assert [(s["predicted_label"], s["confidence"]) for s in chosen] == [("happy", 0.9)]
    every = client.get("samples").json()["samples"]
    items = [{"id": s["id"], "row_version": s["row_version"]} for s in every]
    items[0]["row_version"] += 7
    body = {"items": items, "kind": "relabel", "label": "happy", "sitting": SITTING}
    answer = client.post("decide-many", body).json()
    assert answer["done"] == 2
    assert [refused["id"] for refused in answer["refused"]] == [every[0]["id"]]
    back = client.post("undo-many", {"sitting": SITTING}).json()
    assert {s["id"] for s in back["samples"]} == {s["id"] for s in every[1:]}
    assert {s["status"] for s in back["samples"]} == {"pending"}


def test_copies_within_a_group_are_folded_into_one_card(console: Console) -> None:
    for _ in range(3):
        sample = drawn_sample("happy", 0.9, 5, console.model, side=64)
        console.store.keep([sample], group_id="one visitor")
    client = console.signed_in("grace")
    (card,) = client.get("samples").json()["samples"]
    assert len(card["copies"]) == 2


def test_an_admin_deletes_and_the_picture_is_gone(console: Console) -> None:
    console.fill(2)
    client = console.signed_in("ada")
    assert client.post("delete", {"ids": console.ids[:1]}).json() == {"deleted": 1}
    assert client.http.get(f"/review/image/{console.ids[0]}").status_code == 404
    assert client.http.get(f"/review/image/{console.ids[1]}").status_code == 200
    totals = client.get("board").json()["totals"]
    assert (totals["collected"], totals["deleted"]) == (1, 1)


def test_the_board_tells_reviewers_no_names_but_their_own(console: Console) -> None:
    console.fill(4)
    for name in ("ada", "grace"):
        client = console.signed_in(name)
        for face in client.faces(2):
            client.decide(face, "relabel", "happy")
    board = console.signed_in("grace").get("board").json()
    assert sorted((one["name"], one["me"]) for one in board["operators"] if one["me"]) == [
        ("grace", True)
    ]
    assert "ada" not in json.dumps(board["operators"])
    assert {one["name"] for one in console.signed_in("ada").get("board").json()["operators"]} == {
        "ada",
        "grace",
    }
    assert board["totals"]["collected"] == 4
    assert board["by_day"][-1]["collected"] == 4
    (model,) = board["models"]
    assert sum(map(sum, model["matrix"])) == 4
    assert len(model["per_class"]) == 7


def test_what_the_next_run_needs_comes_from_the_last_verdict() -> None:
    verdict = {"lines": [{"name": "audit"}, {"name": "collected", "more_needed": 37}]}
    assert more_needed(verdict) == 37
    assert more_needed({"lines": [{"more_needed": 0}]}) is None
    assert more_needed(None) is None


def test_the_board_asks_for_as_many_decisions_as_a_run_needs() -> None:
    assert Options().min_new == FEWEST


def test_exported_faces_come_back_by_import_with_the_same_labels(console: Console) -> None:
    console.fill(3)
    client = console.signed_in("ada")
    for face, label in zip(client.faces(3), ("happy", "sad", "angry"), strict=True):
        client.decide(face, "relabel", label)
    zipped = client.http.get("/review/api/export")
    names = zipfile.ZipFile(io.BytesIO(zipped.content)).namelist()
    assert {name.split("/")[0] for name in names if name.endswith(".jpg")} == {
        "happy", "sad", "angry",
    }  # fmt: skip
    assert list((console.store.settings.data_dir / ".transfer").iterdir()) == []
    client.post("delete", {"ids": console.ids})
    answer = client.http.post(
        "/review/api/import?as_decisions=true",
        content=zipped.content,
        headers={"X-CSRF-Token": client.csrf},
    )
    assert answer.json()["imported"] == 3, answer.text
    held = [row for row in console.samples().values() if row.deleted_at is None]
    assert sorted(str(row.final_label) for row in held) == ["angry", "happy", "sad"]
    assert {row.decided_by for row in held} == {"ada"}


def test_what_is_no_zip_is_refused_with_a_sentence(console: Console) -> None:
    client = console.signed_in("ada")
    answer = client.http.post(
        "/review/api/import", content=b"no zip", headers={"X-CSRF-Token": client.csrf}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "data")


def test_an_admin_promotes_and_rolls_back(console: Console) -> None:
    newer = make_version(console.store.settings.models_dir, number=3)
    client = console.signed_in("ada")
    assert client.post("models/promote", {"version": newer}).json()["champion"] == newer
    shown = client.get("models").json()
    assert (shown["champion"], shown["previous"]) == (newer, console.model)
    assert client.post("models/rollback").json()["champion"] == console.model
    assert client.post("models/promote", {"version": "../../etc"}).status_code == 404


def test_a_champion_with_other_labels_is_announced(console: Console) -> None:
    client = console.signed_in("ada")
    before = client.post("queue", {"order": "newest", "count": 1}).json()["champion"]
    newer = make_version(console.store.settings.models_dir, ("yes", "no"), number=3)
    console.services.registry.promote(newer, change_labels=True)
    after = client.post("queue", {"order": "newest", "count": 1}).json()["champion"]
    assert len(before["labels"]) == 7
    assert after["keys"] == [["yes", "1"], ["no", "2"]]


# The retraining job


SCRIPT = """
import json, pathlib, sys, time
assert sys.argv[1:] == ["--json"], sys.argv
print(json.dumps({"message": "Reading the reviewed faces", "share": 0.25}), flush=True)
while not pathlib.Path(__file__).with_name("go").exists():
    time.sleep(0.02)
print("a plain line", flush=True)
sys.exit(3)
"""


def test_one_retraining_runs_at_a_time_and_is_followed(console: Console, tmp_path: Path) -> None:
    script = tmp_path / "retrain.py"
    script.write_text(SCRIPT, encoding="utf-8")
    job = RetrainingJob(console.store.settings, script)
    assert job.state()["running"] is False
    job.start()
    state = wait_for(job, lambda state: bool(state["lines"]))
    assert (state["running"], state["share"]) == (True, 0.25)
    assert state["lines"] == ["Reading the reviewed faces"]
    with pytest.raises(RetrainingError):
        job.start()
    # Another server on the same folder sees it too, and starts none beside it.
    other = RetrainingJob(console.store.settings, script)
    assert other.state()["running"] is True
    with pytest.raises(RetrainingError):
        other.start()
    (tmp_path / "go").touch()
    state = wait_for(job, lambda state: not state["running"])
    assert state["exit_code"] == 3
    assert state["lines"][-1] == "a plain line"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_job_is_polite(console: Console, tmp_path: Path) -> None:
    script = tmp_path / "retrain.py"
    script.write_text("import os; print(os.nice(0), flush=True)\nimport time; time.sleep(0.3)")
    script.write_text(
        "import os, time\n"
        "while os.nice(0) != 10: time.sleep(0.01)\n"
        "print('nice is', os.nice(0), flush=True)\n"
    )
    job = RetrainingJob(console.store.settings, script)
    job.start()
    state = wait_for(job, lambda state: not state["running"])
    assert state["lines"] == ["nice is 10"]


def test_without_the_job_the_page_says_so(console: Console, tmp_path: Path) -> None:
    job = RetrainingJob(console.store.settings, tmp_path / "missing.py")
    assert job.state()["available"] is False
    with pytest.raises(RetrainingError):
        job.start()


def wait_for(job: RetrainingJob, done: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        state = job.state()
        if done(state):
            return state
        time.sleep(0.02)
    raise AssertionError(job.state())


# Keys, texts, geometry


def test_more_than_nine_labels_take_letters_that_mean_nothing_else() -> None:
    names = [f"label {n}" for n in range(9)] + ["unsure face", "xenial", "bored", "hopeful"]
    keys = dict(label_keys(LabelSet(names)))
    assert [keys[name] for name in names[:9]] == list("123456789")
    letters = [keys[name] for name in names[9:]]
    assert len(set(letters)) == 4
    assert not set(letters) & set("ahouxz?")
    assert keys["bored"] == "b"


def test_labels_beyond_the_alphabet_are_left_to_the_mouse() -> None:
    keys = [key for _, key in label_keys(LabelSet([f"l{n}" for n in range(60)]))]
    given = [key for key in keys if key]
    assert len(given) == len(set(given)) == 29
    assert keys[-1] == ""


def test_both_languages_say_everything_and_fill_in_the_same() -> None:
    import string

    def holes(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    english, indonesian = (load_console(language) for language in LANGUAGES)
    assert set(english) == set(indonesian)
    for key, text in english.items():
        assert holes(text) == holes(indonesian[key]), key


def test_the_page_draws_the_crop_that_the_model_saw(face_image: Any) -> None:
    box = FaceBox(170.0, 60.0, 110.0, 120.0, 11.0, 0.9)
    framing = Framing(scale=1.2, lift=0.1)
    crop = crop_geometry(box, framing)
    assert crop["side"] == pytest.approx(144.0)
    # Pillow's inverse map of the page's canvas transform, against the crop of the model.
    side = 96
    import math

    angle, scale = math.radians(crop["roll"]), crop["side"] / side
    a, b = scale * math.cos(angle), -scale * math.sin(angle)
    d, e = scale * math.sin(angle), scale * math.cos(angle)
    half = side / 2
    matrix = (a, b, crop["x"] - a * half - b * half, d, e, crop["y"] - d * half - e * half)
    drawn = Image.fromarray(face_image).transform(
        (side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    import numpy as np

    wanted = cut(face_image, box, framing, side).astype(float)
    assert np.abs(np.asarray(drawn, float) - wanted).mean() < 6


def test_views_hide_what_a_blind_operator_must_not_know() -> None:
    # Whoever adds a field to a sample decides here whether a blind face may show it.
    hidden = {
        "path", "predicted_label", "confidence", "margin", "probabilities", "visitor_label",
        "visitor_disagreed", "final_label", "status", "decided_at", "decided_by", "uncertainty",
        "rarity", "label_error", "second_by", "second_kind", "second_label",
    }  # fmt: skip
    assert hidden <= set(SampleView.__dataclass_fields__)
    assert not hidden & BLIND_FIELDS
