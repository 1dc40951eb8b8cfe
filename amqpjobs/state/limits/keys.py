"""Keys of slots and claims: of an app and a kind, so that no two meet.

Changes when there is another kind.
"""

import json
from collections.abc import Collection
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    String,
    any_,
    func,
    literal,
    select,
)
from sqlalchemy import text as sql

from amqpjobs.state.store.keys import key_of

if TYPE_CHECKING:
    from sqlalchemy import Column

LIMIT, LOCK, UNIQUE, DEBOUNCE = "limit", "lock", "unique", "debounce"

MOST_VARIABLES = 10_000
"""Values that a statement of SQLite is given one by one."""


def key_in(app: str, kind: str, text: str) -> str:
    """The key of an app, as it is stored: in 255 bytes."""
    name = app.replace("%", "%25").replace(":", "%3A")
    return key_of(f"{name}:{kind}:{text}")


def shown(key: str) -> tuple[str, str]:
    """The kind of a key, and the rest of it, for people."""
    _, kind, text = key.split(":", 2)
    return kind, text


def prefix_of(app: str) -> str:
    """What all keys of an app begin with."""
    return key_in(app, "", "").removesuffix(":")


def lock_keys(connection: Connection, keys: Collection[str]) -> None:
    """Have these keys for this transaction alone: another one that wants one of them waits until it
    ends. SQLite has one writer in any case."""
    if connection.dialect.name != "postgresql" or not keys:
        return
    # In one order for all, so that no two transactions wait for each other.
    numbers = sorted({_number(key) for key in keys})
    connection.execute(
        sql(
            "SELECT pg_advisory_xact_lock(n) FROM unnest(CAST(:numbers AS bigint[])) AS n"
        ).bindparams(),
        {"numbers": numbers},
    )


def among(
    connection: Connection, column: "Column[Any]", values: Collection[Any]
) -> ColumnElement[bool]:
    """Whether a column has one of these values: as one statement, however many there are."""
    if connection.dialect.name != "postgresql":
        # SQLite has 32,766 variables in a statement, or what it was built with.
        if len(values) <= MOST_VARIABLES:
            return column.in_(list(values))
        each = func.json_each(json.dumps(list(values))).table_valued("value")
        return column.in_(select(each.c.value))
    kind = BigInteger() if isinstance(column.type, BigInteger) else String()
    if column.name == "id":
        kind = BigInteger()
    return column == any_(literal(list(values), ARRAY(kind)))


def _number(key: str) -> int:
    return int.from_bytes(
        blake2b(key.encode(), digest_size=8, person=b"amqpjobs").digest(), signed=True
    )
