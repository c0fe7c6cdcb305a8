"""Uploads of many visitors: none takes another's away, none is remembered for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.soak.completing import complete
from benchmarks.soak.visitors import Visitor
from fer.web.uploads import UploadFolder
from tests.web.serving import Server


def test_visitors_who_send_the_same_picture_at_once_are_all_answered(
    server: Server, face_jpeg: bytes
) -> None:
    """Uploads lay in folders named by their contents: the first one read took the others away."""

    async def class_room() -> list[object]:
        visitors = [Visitor(server.url) for _ in range(6)]
        answers = await asyncio.gather(*(one.read(face_jpeg) for one in visitors))
        await asyncio.gather(*(one.client.aclose() for one in visitors))
        return list(answers)

    answers = complete(class_room())
    assert [len(answer["faces"]) for answer in answers] == [1] * 6  # type: ignore[index]


def test_no_path_of_an_upload_is_remembered() -> None:
    pytest.importorskip("gradio")
    from fer.web.photo import Page

    page = Page()
    page.upload_file_set.update(["/tmp/somewhere/picture.jpg"])
    assert not page.upload_file_set


def test_folders_that_go_away_while_they_are_counted(tmp_path: Path) -> None:
    """Of a thousand uploads under load, eighty were answered 500."""
    folder = UploadFolder(tmp_path / "base")
    for number in range(40):
        (folder.path / str(number)).mkdir()
        (folder.path / str(number) / "picture.jpg").write_bytes(b"1234")
    looking = folder._everything()
    for _ in range(10):
        next(looking)
    for number in range(40):
        (folder.path / str(number) / "picture.jpg").unlink(missing_ok=True)
        (folder.path / str(number)).rmdir()
    assert len(list(looking)) <= 80
    assert folder.size_bytes() == 0
    folder.close()


def test_the_queue_survives_sessions_that_were_let_go() -> None:
    """Gradio's own mapping raised KeyError, which ended the queue for everybody."""
    pytest.importorskip("gradio")
    from fer.web.unfetched import SESSIONS_HELD, Unfetched

    messages = Unfetched()
    messages["waiting"] = waiting = object()
    messages["gone"] = object()
    for number in range(3 * SESSIONS_HELD):
        messages[f"stranger {number}"] = object()
        assert messages["waiting"] is waiting
    assert len(messages) == SESSIONS_HELD
    assert "gone" not in messages
    assert messages["gone"].empty()
