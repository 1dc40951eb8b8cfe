"""What an app has for schedules at run time: `App.schedules`.

Here and not at the root: it needs the client and the store, and nothing that is above them. Nothing
of SQLAlchemy is imported before a method is called. Changes when a program may say something else
about schedules.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar, overload

from amqpjobs.jobs.durations import Seconds, seconds_above_zero
from amqpjobs.jobs.message.handle import JobHandle, handle_of
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.schedule.dues import dues_between
from amqpjobs.jobs.schedule.schedule import Schedule
from amqpjobs.jobs.schedule.status import ScheduleStatus, TickRecord
from amqpjobs.jobs.within import AsyncTransaction, Transaction
from amqpjobs.state.memory import memory_of
from amqpjobs.state.schedules.arguments import check_put, moment_of, noted
from amqpjobs.state.schedules.mechanism import check_store

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from amqpjobs.client.client import Client
    from amqpjobs.state.memory import Memory
    from amqpjobs.state.schedules.at_will import Wanted
    from amqpjobs.state.schedules.within import BlockingSchedulesWithin, SchedulesWithin

P = ParamSpec("P")
T = TypeVar("T")

Statuses: TypeAlias = list[ScheduleStatus]


class HasSchedules:
    """What an `App` has for its schedules."""

    @property
    def client(self) -> "Client":
        """The client of the app."""
        raise NotImplementedError

    @property
    def schedules(self) -> "Schedules":
        """The schedules of the app, to be put, paused, run and looked at. See
        `amqpjobs.state.schedules.scheduling.Schedules`."""
        return Schedules(self.client)


class Schedules:
    """The schedules of an app: ``app.schedules``. They are kept in the store: those of
    ``schedule=`` in the code, and those that were put at run time.

    They fire in every process that does the housekeeping: ``amqpjobs consume``, ``web`` and
    ``record``. Where no store is set, those in the code fire all the same, and every method here
    raises `ConfigurationError`.

    Args:
        client: whose schedules.

    Example:
        >>> status = await app.schedules.put("tenant-7", Cron("@daily"), build_report.message(7))
        >>> await app.schedules.remove("tenant-7")
        True
    """

    def __init__(self, client: "Client") -> None:
        self._client = client

    def __repr__(self) -> str:
        return f"<Schedules of {self._client.runtime.registry.name}>"

    async def put(self, name: str, schedule: Schedule, message: Message[Any]) -> ScheduleStatus:
        """Add a schedule, or replace the one of this name that was put before. It is first due
        after now: what was due before is not made up for. If the times are the same as before, it
        goes on with them; a pause stays.

        Args:
            name: of the schedule, in the app: 1 to 200 characters.
            schedule: when it is due.
            message: what it sends each time: ``job.message(x)``, with options but those that the
                schedule decides (``delay``, ``at``, ``id``). Publishing middleware sees it now, and
                not at each time.

        Raises:
            ConfigurationError: no store is set; the name is one of the code, or no name; there are
                10,000 schedules; or a message that a schedule cannot send.
            StoreUnavailable: the store cannot be reached.

        Example:
            >>> status = await app.schedules.put(
            ...     "tenant-7", Cron("0 6 * * *", tz="Europe/Berlin"), build_report.message(7)
            ... )
            >>> status.words
            'every day at 06:00 Europe/Berlin'
        """
        memory = self._memory()
        check_put(name, schedule)
        from amqpjobs.state.schedules.messages import template_for
        from amqpjobs.state.schedules.rows import put

        template = await template_for(self._client, message)

        await self._changed(memory, put, name, schedule, template)
        return await self._known(name)

    async def pause(
        self, name: str, *, note: str | None = None, until: datetime | Seconds | None = None
    ) -> ScheduleStatus:
        """Send nothing of a schedule, whether it is in the code or was put at run time. What is due
        meanwhile is not made up for.

        Args:
            name: of the schedule.
            note: why, for others to see; up to 500 characters.
            until: a time with a time zone, or seconds from now: it goes on by itself then. None:
                until `resume`.

        Raises:
            ConfigurationError: no store is set; there is no such schedule; or the time has passed.
            StoreUnavailable: the store cannot be reached.

        Example:
            >>> status = await app.schedules.pause("tenant-7", note="moving", until=86_400)
            >>> status.paused
            True
        """
        memory = self._memory()
        from amqpjobs.state.schedules.rows import pause

        moment = await self._moment(memory, until)
        await self._changed(memory, pause, name, noted(note), moment)
        return await self._known(name)

    async def resume(self, name: str) -> ScheduleStatus:
        """Go on with a schedule that is paused, from now.

        Raises:
            ConfigurationError: no store is set, or there is no such schedule.
            StoreUnavailable: the store cannot be reached.

        Example:
            >>> status = await app.schedules.resume("tenant-7")
        """
        memory = self._memory()
        from amqpjobs.state.schedules.rows import resume

        await self._changed(memory, resume, name)
        return await self._known(name)

    async def remove(self, name: str) -> bool:
        """Forget a schedule that was put at run time, and its ticks. Jobs that it has sent stay.

        Returns:
            Whether it was there.

        Raises:
            ConfigurationError: no store is set; or it is in the code.
            StoreUnavailable: the store cannot be reached.

        Example:
            >>> await app.schedules.remove("tenant-7")
            True
        """
        memory = self._memory()
        from amqpjobs.state.schedules.rows import remove

        store = await memory.store()
        return await store.run(remove, memory.app, name)

    async def run_now(self, name: str) -> JobHandle[Any]:
        """Send the job of a schedule now, beside its times: also while it is paused, and while its
        last job runs. Called twice within a second it is one job.

        Returns:
            The handle of the job; its ``ctx.tick.how`` is ``"run_now"``.

        Raises:
            ConfigurationError: no store is set; there is no such schedule; or its job is unknown.
            StoreUnavailable: the store cannot be reached.

        Example:
            >>> handle = await app.schedules.run_now("tenant-7")
        """
        memory = self._memory()
        from amqpjobs.state.schedules.at_will import run_now

        wanted = await self._changed(memory, run_now, name, self._jobs())
        memory.nudge()
        return self._handle(wanted)

    async def backfill(
        self, name: str, start: datetime | float, end: datetime | float
    ) -> Sequence[JobHandle[Any]]:
        """Send the jobs for times that have passed and were not sent: those that were skipped or
        missed, and those before there was the schedule. Called twice, they are sent once. They may
        run beside each other.

        Args:
            name: of the schedule.
            start: a time with a time zone, or seconds since the epoch; itself counted.
            end: the same; what is still to come is left out. At most 1,000 times.

        Returns:
            The handles of those that are sent now, the oldest first; their ``ctx.tick.how`` is
            ``"backfill"``.

        Raises:
            ConfigurationError: no store is set; there is no such schedule; its job is unknown; or
                there are more than 1,000 times.
            StoreUnavailable: the store cannot be reached.

        Example:
            >>> day = datetime(2026, 11, 1, tzinfo=UTC)
            >>> handles = await app.schedules.backfill("tenant-7", day, day + timedelta(days=2))
            >>> len(handles)
            3
        """
        memory = self._memory()
        begin, until = moment_of("start", start), moment_of("end", end)
        from amqpjobs.state.schedules.at_will import backfill

        wanted = await self._changed(memory, backfill, name, self._jobs(), begin, until)
        if wanted:
            memory.nudge()
        return [self._handle(each) for each in wanted]

    async def list(self) -> Statuses:
        """What is known of all schedules, by name.

        Raises:
            ConfigurationError: no store is set.
            StoreUnavailable: the store cannot be reached.

        Example:
            >>> [status.name for status in await app.schedules.list()]
            ['tenant-7']
        """
        return await self._statuses(None)

    async def get(self, name: str) -> ScheduleStatus | None:
        """What is known of a schedule; None if there is none of this name.

        Raises:
            ConfigurationError: no store is set.
            StoreUnavailable: the store cannot be reached.

        Example:
            >>> status = await app.schedules.get("tenant-7")
        """
        found = await self._statuses(name)
        return found[0] if found else None

    async def next(self, name: str, count: int = 5) -> Sequence[datetime]:
        """When a schedule is due next, as times in its zone. Those of a schedule that is paused are
        those after its pause; none, if that has no end.

        Args:
            name: of the schedule.
            count: how many.

        Raises:
            ConfigurationError: no store is set, or there is no such schedule.
            StoreUnavailable: the store cannot be reached.

        Example:
            >>> times = await app.schedules.next("tenant-7", 3)
        """
        status = await self._known(name)
        if status.schedule is None or status.next is None:
            return []
        dues = dues_between(status.schedule, status.next - 1, float("inf"), count)
        return [status.time_of(due) for due in dues]

    async def ticks(self, name: str | None = None, most: int = 20) -> Sequence[TickRecord]:
        """The newest ticks, the oldest of them first: sent or skipped, and why. They are kept for
        30 days.

        Args:
            name: of a schedule; None for all.
            most: how many.

        Raises:
            ConfigurationError: no store is set.
            StoreUnavailable: the store cannot be reached.

        Example:
            >>> skipped = [t for t in await app.schedules.ticks("tenant-7") if t.reason]
        """
        memory = self._memory()
        from amqpjobs.state.schedules.looking import ticks_of

        store = await memory.store()
        return await store.run(ticks_of, memory.app, name, most)

    @overload
    def within(self, transaction: AsyncTransaction) -> "SchedulesWithin": ...
    @overload
    def within(self, transaction: Transaction) -> "BlockingSchedulesWithin": ...
    def within(self, transaction: Any) -> Any:
        """Put, pause, resume and remove schedules by a transaction of yours in the database of the
        store: kept with what else it writes, or not at all.

        Args:
            transaction: an AsyncSession, Session, AsyncConnection or Connection of SQLAlchemy 2, of
                the database of ``AMQPJOBS_STORE_URL``.

        Raises:
            ConfigurationError: no store is set; or a transaction that cannot keep this promise.

        Example:
            >>> async with Sessions.begin() as session:
            ...     schedules = app.schedules.within(session)
            ...     await schedules.put("tenant-7", Cron("@daily"), build_report.message(7))
        """
        memory = self._memory()
        from amqpjobs.state.schedules.within import within

        return within(memory, transaction)

    def _memory(self) -> "Memory":
        check_store(self._client.runtime.settings, "app.schedules")
        return memory_of(self._client)

    def _jobs(self) -> Sequence[str]:
        return tuple(self._client.runtime.registry.jobs)

    def _handle(self, wanted: "Wanted") -> JobHandle[Any]:
        message: Message[Any] = Message(wanted.job_id, wanted.job, wanted.queue, b"")
        return handle_of(message, self._client.runtime.registry.app)

    async def _changed(
        self,
        memory: "Memory",
        function: "Callable[Concatenate[Connection, str, str, P], T]",
        name: str,
        *args: Any,
    ) -> T:
        store = await memory.store()
        await self._see(memory, name)
        run: Any = store.run
        result: T = await run(function, memory.app, name, *args, store.now)
        memory.schedules_changed = True
        memory.nudge()
        return result

    async def _see(self, memory: "Memory", name: str) -> None:
        """Have the schedules of the code in the store, if no process has run with them yet."""
        if self._client.runtime.registry.schedules and not await self._statuses(name):
            from amqpjobs.state.schedules.in_code import sync_code

            await sync_code(self._client, await memory.store())

    async def _statuses(self, name: str | None) -> Statuses:
        memory = self._memory()
        from amqpjobs.state.schedules.looking import statuses_of

        store = await memory.store()
        return await store.run(statuses_of, memory.app, self._jobs(), store.now, name)

    async def _known(self, name: str) -> ScheduleStatus:
        for status in await self._statuses(name):
            return status
        from amqpjobs.state.schedules.rows import unknown

        store = await self._memory().store()
        raise await store.run(unknown, self._client.runtime.registry.name, name)

    async def _moment(self, memory: "Memory", until: datetime | Seconds | None) -> float | None:
        if until is None or isinstance(until, datetime):
            return None if until is None else moment_of("until", until)
        seconds = seconds_above_zero("until", until)
        return await (await memory.store()).time() + seconds
