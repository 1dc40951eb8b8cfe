"""The one place where a driver's error becomes one of ours. Changes when a driver has others."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from amqpjobs.errors import AmqpJobsError, StoreUnavailable

AGAIN = ("40001", "40P01")
"""SQLSTATEs of transactions that succeed when they are run again: serialization failure, deadlock
(https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html)."""


class Unfit(Exception):
    """The database cannot hold a value."""


def ours(error: Exception, place: str | None = None) -> Exception:
    """What an error of a driver is here: a `StoreUnavailable`, or `Unfit` for a value that the
    database cannot hold. Errors that are ours already stay as they are.

    Args:
        place: which database of the user's it was; None for the store.
    """
    if isinstance(error, AmqpJobsError | Unfit):
        return error
    if isinstance(error, DBAPIError):
        if _is_unfit(error):
            return Unfit(str(error.orig))
        return StoreUnavailable(_words(error.orig or error, place))
    if isinstance(error, UnicodeError | OverflowError):
        return Unfit(str(error))
    # Drivers raise what they like while they connect: OSError, TimeoutError, their own.
    return StoreUnavailable(_words(error, place))


@asynccontextmanager
async def errors() -> AsyncIterator[None]:
    """Map the errors of the block.

    Raises:
        StoreUnavailable: whatever it was.
        Unfit: a value that the database cannot hold.
    """
    try:
        yield
    except Exception as error:
        mapped = ours(error)
        if mapped is error:
            raise
        raise mapped from error


def succeeds_again(error: BaseException) -> bool:
    """Whether the same transaction may succeed when it is run again: another one was in its way."""
    if not isinstance(error, DBAPIError):
        return False
    state = str(getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or "")
    return state in AGAIN or "database is locked" in str(error.orig)


def is_away(error: BaseException) -> bool:
    """Whether an error of a user's database says that it is away, and nothing of the statement."""
    if isinstance(error, DBAPIError):
        # SQLSTATE classes 08, connection exception; 57P, operator intervention; 53, no resources.
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return error.connection_invalidated or state[:3] == "57P" or state[:2] in ("08", "53")
    return isinstance(error, ConnectionError | TimeoutError)


def _is_unfit(error: DBAPIError) -> bool:
    if isinstance(error, DataError | IntegrityError):
        return True
    # SQLSTATE classes 22, data exception, and 23, integrity constraint violation.
    return str(getattr(error.orig, "sqlstate", None) or "")[:2] in ("22", "23")


def missing_table(error: BaseException) -> str | None:
    """The table of ours that a statement has named, and is not there; None for another error."""
    if not isinstance(error, DBAPIError):
        return None
    state = str(getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None))
    if state != "42P01" and "no such table" not in str(error.orig):
        return None
    named = re.search(r"amqpjobs_\w+", str(error.orig))
    return named[0] if named else "of amqpjobs"


def _words(error: BaseException, place: str | None) -> str:
    said = str(error) or repr(error)
    if place is not None:
        return f"{place} cannot be used: {said} ({type(error).__name__}): is it running?"
    question = "is the database running, and is AMQPJOBS_STORE_URL right?"
    if "unable to open database file" in said:
        question = (
            "is the folder of AMQPJOBS_STORE_URL there, and writable? In a container it has to be "
            "a volume, or the store PostgreSQL"
        )
    return f"the store cannot be used: {said} ({type(error).__name__}): {question}"
