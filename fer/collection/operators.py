"""Operators' accounts: names, roles, argon2 password hashes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from fer.collection.database import Database
from fer.collection.samples import Clock, utc_now
from fer.collection.tables import Operator, Role
from fer.errors import OperatorError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,39}")

#: Shortest and longest password, in characters; the longest keeps hashing from being an attack.
MIN_PASSWORD = 8
MAX_PASSWORD = 256

#: Names that stand for no person in the label events.
_TAKEN = frozenset({"visitor", "import"})


@dataclass(frozen=True)
class OperatorView:
    """An operator, without the password hash.

    Attributes:
        session_epoch: changes with the password; a session that noted another one is over.
    """

    name: str
    role: Role
    created_at: datetime
    session_epoch: int


class Operators:
    """The accounts in one database.

    Args:
        hasher: argon2id with the library's default cost; tests pass a cheaper one.
    """

    def __init__(
        self, database: Database, clock: Clock = utc_now, hasher: PasswordHasher | None = None
    ) -> None:
        self.database = database
        self.clock = clock
        self._hasher = hasher or PasswordHasher()
        # Compared with where there is no such name, so that the answer takes as long.
        self._nobody = self._hasher.hash("nobody has this password")

    def add(self, name: str, password: str, role: str = Role.REVIEWER) -> OperatorView:
        """Add an operator.

        Raises:
            OperatorError: the name is taken or cannot be one, the role is unknown, or the
                password is too short or too long.
        """
        if not _NAME.fullmatch(name) or name.casefold() in _TAKEN:
            raise OperatorError(
                f"{name!r} cannot be an operator's name: use up to 40 letters, digits, dots, "
                "hyphens or underscores.",
                name=name,
            )
        if role not in set(Role):
            raise OperatorError(f"{role!r} is no role: {', '.join(Role)}.", role=role)
        hashed = self._hasher.hash(_checked(password))
        with self.database.session(write=True) as session:
            taken = session.scalar(
                sa.select(Operator.name).where(sa.func.lower(Operator.name) == name.lower())
            )
            if taken is not None:
                raise OperatorError(f"There is an operator {taken!r} already.", name=taken)
            row = Operator(
                name=name, password_hash=hashed, role=role, created_at=self.clock(),
                session_epoch=1, handed_out=0,
            )  # fmt: skip
            session.add(row)
            session.flush()
            return _view(row)

    def list(self) -> list[OperatorView]:
        """All operators, by name."""
        with self.database.session() as session:
            return [_view(row) for row in session.scalars(sa.select(Operator).order_by("name"))]

    def get(self, name: str) -> OperatorView | None:
        """An operator, or None."""
        with self.database.session() as session:
            row = session.get(Operator, name)
            return _view(row) if row is not None else None

    def any(self) -> bool:
        """Whether there is any operator yet."""
        with self.database.session() as session:
            return session.scalar(sa.select(Operator.name).limit(1)) is not None

    def remove(self, name: str) -> None:
        """Remove an operator; what they decided stays, under their name.

        Raises:
            OperatorError: no such operator.
        """
        with self.database.session(write=True) as session:
            session.delete(_found(session.get(Operator, name), name))

    def set_password(self, name: str, password: str) -> None:
        """Change a password; all sessions of the operator end.

        Raises:
            OperatorError: no such operator, or a password too short or too long.
        """
        hashed = self._hasher.hash(_checked(password))
        with self.database.session(write=True) as session:
            row = _found(session.get(Operator, name, with_for_update=True), name)
            row.password_hash = hashed
            row.session_epoch += 1

    def authenticate(self, name: str, password: str) -> OperatorView | None:
        """The operator if name and password fit, else None, after the same time either way."""
        with self.database.session() as session:
            row = session.get(Operator, name)
        try:
            known = row is not None and len(password) <= MAX_PASSWORD
            self._hasher.verify(
                row.password_hash if row and known else self._nobody, password[:MAX_PASSWORD]
            )
        except (VerificationError, InvalidHashError):
            return None
        if row is None:
            return None
        if self._hasher.check_needs_rehash(row.password_hash):
            with self.database.session(write=True) as session:
                current = session.get(Operator, name, with_for_update=True)
                if current is not None and current.password_hash == row.password_hash:
                    current.password_hash = self._hasher.hash(password)
        return _view(row)


def _checked(password: str) -> str:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise OperatorError(
            f"A password needs {MIN_PASSWORD} to {MAX_PASSWORD} characters.",
            minimum=MIN_PASSWORD,
            maximum=MAX_PASSWORD,
        )
    return password


def _found(row: Operator | None, name: str) -> Operator:
    if row is None:
        raise OperatorError(f"There is no operator {name!r}.", name=name)
    return row


def _view(row: Operator) -> OperatorView:
    return OperatorView(row.name, Role(row.role), row.created_at, row.session_epoch)
