"""Who is signed in. A session is a row, so that any replica knows it and signing out ends it."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from fer.collection.database import Database
from fer.collection.tables import Operator, OperatorSession, Role

#: How long a session lasts, from signing in.
SESSION_HOURS = 12


@dataclass(frozen=True)
class SignedIn:
    """One who is signed in.

    Attributes:
        name: of the operator.
        role: `reviewer` or `admin`, as it is now and not as it was at sign-in.
        csrf: what every request that changes something must repeat in a header.
        expires_at: when the session ends by itself.
    """

    name: str
    role: str
    csrf: str
    expires_at: datetime

    @property
    def is_admin(self) -> bool:
        """Whether the operator may do what only admins may."""
        return self.role == Role.ADMIN


def csrf_token(token: str) -> str:
    """The session's CSRF token: it follows from the cookie, and the cookie not from it."""
    return hashlib.sha256(f"fer:csrf:{token}".encode()).hexdigest()


class OperatorSessions:
    """Opens, finds and closes sessions.

    Only the SHA-256 of a token is stored: who reads the database cannot sign in with it.
    """

    def __init__(
        self, database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._clock = clock

    def open(self, name: str, replacing: str | None = None) -> str:
        """A new token for an operator who proved to be one.

        Args:
            name: of the operator.
            replacing: the token that the browser came with; it is worth nothing afterwards.

        Raises:
            StorageError: the database refused.
        """
        now = self._clock()
        token = secrets.token_urlsafe(32)
        with self._database.session(write=True) as session:
            session.execute(sa.delete(OperatorSession).where(OperatorSession.expires_at <= now))
            if replacing is not None:
                session.execute(
                    sa.delete(OperatorSession).where(
                        OperatorSession.token_hash == _digest(replacing)
                    )
                )
            epoch = session.scalar(sa.select(Operator.session_epoch).where(Operator.name == name))
            session.add(
                OperatorSession(
                    token_hash=_digest(token),
                    operator=name,
                    epoch=epoch or 0,
                    created_at=now,
                    expires_at=now + timedelta(hours=SESSION_HOURS),
                )
            )
        return token

    def find(self, token: str) -> SignedIn | None:
        """Who holds `token`; None when it was never given out or is over.

        A session is over when its time is, when the operator was removed (and perhaps added
        again since), or when the password changed.

        Raises:
            StorageError: the database cannot be reached.
        """
        query = (
            sa.select(OperatorSession, Operator)
            .join(Operator, Operator.name == OperatorSession.operator)
            .where(OperatorSession.token_hash == _digest(token))
        )
        with self._database.session() as session:
            found = session.execute(query).first()
        if found is None:
            return None
        row, operator = found
        if row.expires_at <= self._clock() or row.epoch != operator.session_epoch:
            return None
        if row.created_at < operator.created_at:
            return None
        return SignedIn(operator.name, operator.role, csrf_token(token), row.expires_at)

    def close(self, token: str) -> None:
        """End a session; nothing happens where there is none.

        Raises:
            StorageError: the database refused.
        """
        with self._database.session(write=True) as session:
            session.execute(
                sa.delete(OperatorSession).where(OperatorSession.token_hash == _digest(token))
            )


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
