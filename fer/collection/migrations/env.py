"""Alembic's environment: it runs on the connection that `Database.migrate` hands over.

From a shell, for who writes a new revision: see `docs/architecture.md`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from fer.collection.tables import Base


def run(connection: sa.Connection) -> None:
    """Apply the migrations that the command asked for, in one transaction."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # SQLite can roll tables back too, once the driver is kept from committing by itself.
        transactional_ddl=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    run(handed_over)
else:
    with context.config.attributes["engine"].connect() as own:
        run(own)
