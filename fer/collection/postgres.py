"""PostgreSQL's own tools, `pg_dump` and `pg_restore`, for backups."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from fer.collection.tables import Base
from fer.errors import BackupError

#: What is dumped: the tables, with what numbers their rows, and the revision that they are at.
TABLES = ("alembic_version", *sorted(Base.metadata.tables))


class MissingToolError(BackupError):
    """A tool of PostgreSQL is not installed, or too old for the server."""


def schema_of(connection: sa.Connection) -> str:
    """The schema that tables without one lie in."""
    return str(connection.scalar(sa.text("SELECT current_schema()")))


def dump(url: sa.URL, schema: str, target: Path, snapshot: str | None = None) -> None:
    """Write the tables of `schema` to `target`, in `pg_dump`'s custom format.

    Args:
        url: of the database.
        schema: of the tables.
        target: a file that does not exist.
        snapshot: what `pg_export_snapshot` gave, to see what that transaction sees.

    Raises:
        MissingToolError: `pg_dump` is missing, or older than the server.
        BackupError: it failed.
    """
    # Tables by name, not the schema: `CREATE SCHEMA public` fails wherever it is restored.
    chosen = [f"--table={_quoted(schema)}.{_quoted(table)}" for table in TABLES]
    options = ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}", *chosen]
    if snapshot is not None:
        options.append(f"--snapshot={snapshot}")
    target.touch(mode=0o600)
    _run("pg_dump", url, options)


def restore(url: sa.URL, source: Path) -> None:
    """Put the tables of a dump into a database, wholly or not at all; empty ones are replaced.

    Raises:
        MissingToolError: `pg_restore` is missing, or older than the dump.
        BackupError: it failed.
    """
    options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
    _run("pg_restore", url, [*options, "--clean", "--if-exists", str(source)])


def _run(tool: str, url: sa.URL, options: Sequence[str]) -> None:
    program = shutil.which(tool)
    if program is None:
        raise MissingToolError(
            f"{tool} is not installed; it comes with PostgreSQL's client "
            "(Debian: postgresql-client)."
        )
    # The password goes by the environment: other users can read command lines.
    env = {**os.environ, "LC_ALL": "C"}
    if url.password is not None:
        env["PGPASSWORD"] = str(url.password)
    done = subprocess.run(
        [program, "--no-password", f"--dbname={_conninfo(url)}", *options],
        env=env,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"{tool} ended with {done.returncode}"]
        kind = MissingToolError if "server version mismatch" in done.stderr else BackupError
        raise kind(f"{tool} failed: {said[0]}")


def _conninfo(url: sa.URL) -> str:
    """libpq's connection string, without the password."""
    from psycopg.conninfo import make_conninfo

    parts: dict[str, str | None] = {
        "host": url.host,
        "port": str(url.port) if url.port else None,
        "user": url.username,
        "dbname": url.database,
        **{name: value for name, value in url.query.items() if isinstance(value, str)},
    }
    parts.pop("password", None)
    return make_conninfo("", **{name: value for name, value in parts.items() if value is not None})


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
