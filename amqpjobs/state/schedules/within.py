"""Schedules that a transaction of the user's puts: `Schedules.within`.

The rows are written by the connection of that transaction, at once. Changes when another kind of
transaction is taken.
"""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Double, literal
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from amqpjobs.jobs.clock import MACHINE
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.schedule.schedule import Schedule
from amqpjobs.state.outbox.within import opened, watch
from amqpjobs.state.schedules import rows
from amqpjobs.state.schedules.arguments import check_put, moment_of, noted
from amqpjobs.state.schedules.messages import template_for, template_now
from amqpjobs.state.store.runs import now_of
from amqpjobs.state.store.tables import schedules
from amqpjobs.state.store.transactions import check_transaction, told

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory


def within(memory: "Memory", transaction: Any) -> "SchedulesWithin | BlockingSchedulesWithin":
    """What puts schedules in a transaction.

    Raises:
        ConfigurationError: it is none of SQLAlchemy's.
    """
    inner, given = opened(transaction)
    if given is None:
        return BlockingSchedulesWithin(memory, inner)
    return SchedulesWithin(memory, inner, given)


class SchedulesWithin:
    """Puts schedules by an AsyncSession or AsyncConnection. Made by `Schedules.within`."""

    def __init__(
        self, memory: "Memory", inner: Session | Connection, given: AsyncSession | AsyncConnection
    ) -> None:
        self._memory = memory
        self._inner = inner
        self._given = given

    def __repr__(self) -> str:
        return f"<Schedules of {self._memory.app} within a transaction>"

    async def put(self, name: str, schedule: Schedule, message: Message[Any]) -> None:
        """Add or replace a schedule. See `Schedules.put`.

        Example:
            >>> async with Sessions.begin() as session:
            ...     schedules = app.schedules.within(session)
            ...     await schedules.put("tenant-7", Cron("@daily"), build_report.message(7))
        """
        check_put(name, schedule)
        template = await template_for(self._memory.client, message)
        await self._run(rows.put, name, schedule, template)

    async def pause(
        self, name: str, *, note: str | None = None, until: datetime | None = None
    ) -> None:
        """Send nothing of a schedule. See `Schedules.pause`.

        Example:
            >>> async with Sessions.begin() as session:
            ...     await app.schedules.within(session).pause("tenant-7", note="moving")
        """
        await self._run(rows.pause, name, *_pause(note, until))

    async def resume(self, name: str) -> None:
        """Go on with it. See `Schedules.resume`.

        Example:
            >>> async with Sessions.begin() as session:
            ...     await app.schedules.within(session).resume("tenant-7")
        """
        await self._run(rows.resume, name)

    async def remove(self, name: str) -> bool:
        """Forget it. See `Schedules.remove`.

        Example:
            >>> async with Sessions.begin() as session:
            ...     removed = await app.schedules.within(session).remove("tenant-7")
        """
        removed = await self._run(_removed, name)
        return bool(removed)

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._given.run_sync(lambda _: _in(self._memory, self._inner, function, *args))


class BlockingSchedulesWithin:
    """The same by a Session or Connection, without ``await``."""

    def __init__(self, memory: "Memory", inner: Session | Connection) -> None:
        self._memory = memory
        self._inner = inner

    def __repr__(self) -> str:
        return f"<Schedules of {self._memory.app} within a transaction>"

    def put(self, name: str, schedule: Schedule, message: Message[Any]) -> None:
        """Add or replace a schedule. See `Schedules.put`.

        Example:
            >>> with BlockingSessions.begin() as session:
            ...     schedules = app.schedules.within(session)
            ...     schedules.put("tenant-7", Cron("@daily"), build_report.message(7))
        """
        check_put(name, schedule)
        template = template_now(self._memory.client, message)
        _in(self._memory, self._inner, rows.put, name, schedule, template)

    def pause(self, name: str, *, note: str | None = None, until: datetime | None = None) -> None:
        """Send nothing of a schedule. See `Schedules.pause`.

        Example:
            >>> with BlockingSessions.begin() as session:
            ...     app.schedules.within(session).pause("tenant-7", note="moving")
        """
        _in(self._memory, self._inner, rows.pause, name, *_pause(note, until))

    def resume(self, name: str) -> None:
        """Go on with it. See `Schedules.resume`.

        Example:
            >>> with BlockingSessions.begin() as session:
            ...     app.schedules.within(session).resume("tenant-7")
        """
        _in(self._memory, self._inner, rows.resume, name)

    def remove(self, name: str) -> bool:
        """Forget it. See `Schedules.remove`.

        Example:
            >>> with BlockingSessions.begin() as session:
            ...     removed = app.schedules.within(session).remove("tenant-7")
        """
        return bool(_in(self._memory, self._inner, _removed, name))


def _removed(connection: Connection, app: str, name: str, _: ColumnElement[float]) -> bool:
    return rows.remove(connection, app, name)


def _pause(note: str | None, until: datetime | None) -> tuple[str | None, float | None]:
    moment = None if until is None else moment_of("until", until)
    return noted(note), moment


def _in(
    memory: "Memory", inner: Session | Connection, function: Callable[..., Any], *args: Any
) -> Any:
    memory.used = True
    if isinstance(inner, Session):
        connection = inner.connection(bind_arguments={"clause": schedules})
    else:
        connection = inner
    check_transaction(connection)
    try:
        result = function(connection, memory.app, *args, _now(memory, connection))
    except DBAPIError as error:
        raise told(connection, schedules.name, error) from error
    memory.schedules_changed = True
    watch(inner, memory)
    return result


def _now(memory: "Memory", connection: Connection) -> ColumnElement[float]:
    """The time of the database; that of the test's clock where the app is tested."""
    clock = memory.client.runtime.clock
    if clock is not MACHINE:
        return literal(clock.time(), Double)
    return now_of(connection.dialect.name)
