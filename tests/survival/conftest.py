"""The server of tests/web, for the tests here that need no server of their own."""

from __future__ import annotations

from tests.web.conftest import server

__all__ = ["server"]
