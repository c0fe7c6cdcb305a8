"""Answers that wait to be fetched by their visitors, in memory, and those that nobody fetches.

Gradio holds them for two thousand sessions and lets the one that came first go, whether its
visitor waits or not; and when it then sends to that one, the whole queue ends: no picture is read
until the server is started again. Two thousand calls by anybody did that.
"""

from __future__ import annotations

from asyncio import Queue
from typing import Any

from gradio.utils import LRUCache

#: Sessions held; many times what can wait at a time.
SESSIONS_HELD = 300


class Unfetched(LRUCache):
    """Messages by session; who used theirs last stays longest, and to ask for one never fails."""

    def __init__(self) -> None:
        super().__init__(SESSIONS_HELD)

    def __getitem__(self, key: str) -> Any:
        """The messages of a session; an empty queue that nobody reads where it was let go."""
        if key not in self:
            return Queue()
        self.move_to_end(key)
        return super().__getitem__(key)
