"""INSERT .. ON CONFLICT in the words of the database of a connection."""

from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_into(connection: Connection, table: Table) -> Any:
    """An INSERT that has ``on_conflict_do_nothing`` and ``on_conflict_do_update``."""
    insert: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    return insert(table)
