"""Running functions of a connection, each in one transaction. Changes when one is tried again in
another case.
"""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import ColumnElement, Connection, Double, literal_column
from sqlalchemy.exc import SQLAlchemyError

from amqpjobs.state.store.errors import ours, succeeds_again

P = ParamSpec("P")
T = TypeVar("T")

AGAIN = 5
"""How often a transaction is run at most, when others are in its way."""

PAUSE = 0.02
"""Seconds before it is run again, times how often it was, half of that at random."""


class Runs(ABC):
    """A database in which functions run, each in one transaction."""

    @property
    @abstractmethod
    def now(self) -> ColumnElement[float]:
        """The time of the database, in seconds since the epoch, for a statement."""

    @abstractmethod
    async def _once(self, work: Callable[[Connection], T]) -> T:
        """Run it in one transaction."""

    def _ours(self, error: Exception) -> Exception:
        """What an error of the driver is here."""
        return ours(error)

    async def run(
        self,
        function: "Callable[Concatenate[Connection, P], T]",
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function in one transaction: what it has written is kept when this returns, or
        nothing of it. It is run again when another transaction was in its way, so it must not have
        effects elsewhere.

        A caller that is cancelled meanwhile does not know whether it was kept.

        Raises:
            StoreUnavailable: nothing of it is known to be kept.
            Unfit: a value that the database cannot hold.
            Exception: what the function raises.
        """

        def work(connection: Connection) -> T:
            try:
                return function(connection, *args, **kwargs)
            except SQLAlchemyError:
                raise
            except Exception as error:
                raise _Own(error) from error

        attempt = 1
        while True:
            try:
                return await self._once(work)
            except _Own as own:
                raise own.error from None
            except Exception as error:
                if attempt >= AGAIN or not succeeds_again(error):
                    raise self._ours(error) from error
            await asyncio.sleep(PAUSE * attempt * (0.5 + random.random() / 2))  # noqa: S311 - not a secret
            attempt += 1


class _Own(Exception):
    """What the function has raised, and no driver."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def now_of(dialect: str) -> ColumnElement[float]:
    """The time of a database as an expression, in seconds since the epoch. SQLite before 3.42 has
    no `unixepoch('now', 'subsec')`."""
    if dialect == "sqlite":
        return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Double)
    return literal_column("extract(epoch FROM clock_timestamp())::float8", Double)
