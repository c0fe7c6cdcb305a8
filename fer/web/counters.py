"""Counters of who asked how often, in memory that strangers cannot fill."""

from __future__ import annotations

import time
from collections.abc import Callable

from limits.storage.base import Storage

#: Counters held at most; beyond, the oldest are dropped. About 300 bytes each.
MOST_COUNTERS = 40_000


class BoundedStorage(Storage):
    """Counters in this process's memory, never more than `most`.

    `limits` has a storage in memory too, which grows with the addresses that ask and walks
    through all counters again and again.

    Args:
        most: counters held at the same time.
        clock: seconds since the epoch.
    """

    STORAGE_SCHEME = ["fer-bounded"]  # noqa: RUF012

    def __init__(self, most: int = MOST_COUNTERS, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._most = most
        self._clock = clock
        # Key → (count, end of its window), the oldest window first.
        self._counters: dict[str, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._counters)

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count `amount` more; the window begins with the first."""
        count = self.get(key)
        if count:
            end = self._counters[key][1]
        else:
            self._counters.pop(key, None)
            end = self._clock() + expiry
            if len(self._counters) >= self._most:
                self._make_room()
        self._counters[key] = (count + amount, end)
        return count + amount

    def get(self, key: str) -> int:
        """The count of a window that has not ended, else 0."""
        count, end = self._counters.get(key, (0, 0.0))
        return count if end > self._clock() else 0

    def get_expiry(self, key: str) -> float:
        """When the window ends."""
        return self._counters.get(key, (0, self._clock()))[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        count = len(self._counters)
        self._counters.clear()
        return count

    def clear(self, key: str) -> None:
        self._counters.pop(key, None)

    def _make_room(self) -> None:
        now = self._clock()
        self._counters = {k: value for k, value in self._counters.items() if value[1] > now}
        if len(self._counters) > self._most * 3 // 4:
            for key in list(self._counters)[: self._most // 4]:
                del self._counters[key]
