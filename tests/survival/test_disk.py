"""Disks that fill up, turn read-only or go away under the running server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.soak import disk
from tests.web.serving import Server

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose data and whose uploads lie on small disks, and that obeys modes."""
    try:
        with disk.server_on_small_disks(tmp_path_factory.mktemp("disk")) as running:
            yield running
    except PermissionError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("fault", disk.FAULTS)
def test_a_disk_fails_under_the_running_server(
    server: Server, face_jpeg: bytes, fault: str
) -> None:
    """Classification goes on, the answer says why saving does not, and it recovers by itself."""
    outcome = disk.survive(server, fault, face_jpeg)
    assert outcome.wrong == []


def test_no_room_for_an_upload_is_said_and_passes(server: Server, face_jpeg: bytes) -> None:
    outcome = disk.survive_full_uploads(server, face_jpeg)
    assert outcome.wrong == []
