"""Slows down who guesses passwords."""

from __future__ import annotations

import hashlib
import math
import threading
import time

from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.strategies import FixedWindowRateLimiter

from fer.web.counters import MOST_COUNTERS, BoundedStorage

#: Wrong passwords in a minute, for one name or from one address, before the door stays shut.
WRONG_A_MINUTE = 10

#: How long it then stays shut for that name and that address, in seconds.
LOCK_SECONDS = 300


class Lockout:
    """Counts attempts by name and by address, in this process's memory.

    The minute begins with the first attempt. Attempts and locks are counted apart, so that a
    flood of made-up names pushes no lock out.

    An attempt counts from its beginning, so that many at once cannot all slip through, and is
    struck off when the password was right. Names that no operator has are counted like others:
    the answer does not tell which names exist.

    Args:
        wrong: passwords in a minute before the door stays shut.
        lock_seconds: how long it then does.
        most: counters of each kind held at the same time.
    """

    def __init__(
        self,
        wrong: int = WRONG_A_MINUTE,
        lock_seconds: int = LOCK_SECONDS,
        most: int = MOST_COUNTERS,
    ) -> None:
        self.counted, self.locked = BoundedStorage(most), BoundedStorage(most)
        self._attempts = FixedWindowRateLimiter(self.counted)
        self._locks = FixedWindowRateLimiter(self.locked)
        self._attempt = RateLimitItemPerMinute(wrong)
        self._lock = RateLimitItemPerSecond(1, lock_seconds, namespace="LOCK")
        self._turn = threading.Lock()

    def begin(self, name: str, address: str) -> int:
        """Count an attempt; seconds to wait where it is refused, else 0."""
        keys = _keys(name, address)
        with self._turn:
            wait = max(self._wait(key) for key in keys)
            if wait:
                return wait
            if all([self._attempts.hit(self._attempt, *key) for key in keys]):
                return 0
            self._shut(keys)
            return max(self._wait(key) for key in keys)

    def wrong(self, name: str, address: str) -> None:
        """The password was wrong: with the last attempt of the minute, the door is shut."""
        keys = _keys(name, address)
        with self._turn:
            self._shut(keys)

    def right(self, name: str, address: str) -> None:
        """The password was right: attempts of this name and from this address start anew."""
        with self._turn:
            for key in _keys(name, address):
                self._attempts.clear(self._attempt, *key)

    def _shut(self, keys: list[tuple[str, str]]) -> None:
        for key in keys:
            if self._attempts.get_window_stats(self._attempt, *key).remaining == 0:
                self._locks.hit(self._lock, *key)

    def _wait(self, key: tuple[str, str]) -> int:
        if self._locks.test(self._lock, *key):
            return 0
        until = self._locks.get_window_stats(self._lock, *key).reset_time
        return max(1, math.ceil(until - time.time()))


def _keys(name: str, address: str) -> list[tuple[str, str]]:
    # A digest: names come from outside and may be long or hold the limiter's separator.
    digest = hashlib.sha256(name.strip().casefold().encode("utf-8", "replace")).hexdigest()
    return [("name", digest), ("address", address)]
