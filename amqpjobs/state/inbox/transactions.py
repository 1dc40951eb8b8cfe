"""Runs the handlers of ``once=`` in a worker: each in one transaction, with what says that it was
done.

    begin -> inbox row -> handler -> result -> commit -> (reply, ack)

A duplicate finds the row, and its handler does not run. Changes when a transaction is begun, tried
again or given up otherwise.
"""

import asyncio
import logging
import random
import time
import weakref
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import Connection, event, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from amqpjobs.broker.rabbitmq.own_thread import in_own_thread
from amqpjobs.errors import ConfigurationError, InvalidResult
from amqpjobs.jobs.message.headers import family_of
from amqpjobs.jobs.once import Sessions, session_here
from amqpjobs.jobs.results import dump_result, load_result
from amqpjobs.jobs.run_context import RunContext, current_context
from amqpjobs.jobs.verdicts import RateLimited, Snooze, Verdict
from amqpjobs.state.inbox.rows import Done, Entry, enter, keep_result
from amqpjobs.state.store.errors import is_away, succeeds_again
from amqpjobs.state.store.runs import now_of
from amqpjobs.state.store.transactions import check_transaction, told

if TYPE_CHECKING:
    from amqpjobs.jobs.definition import Definition
    from amqpjobs.state.memory import Memory

log = logging.getLogger("amqpjobs.worker")

AGAIN = 10
"""How often a transaction is tried at once, when others are in its way. It uses no attempt."""

PAUSE = 0.01
"""Seconds before it is tried again, times how often it was, half of that at random."""

FIRST_WAIT, LONGEST_WAIT = 1.0, 15.0
"""Seconds for which the jobs of a queue wait when their database is away; they double."""

CANNOT_BE_USED = (OperationalError, InterfaceError, PoolTimeout, OSError, ConfigurationError)
"""What our own statements raise when a database is away, full, or has no table; `OSError` is what
asyncpg connects with."""

FORGET = 60.0
"""Seconds after which a database that was away is taken for a healthy one."""


class InTransactions:
    """Runs handlers once: see `amqpjobs.jobs.once.Transactions`.

    Args:
        memory: of the app; its inbox is where what was done is kept.
    """

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory
        self._runtime = memory.client.runtime
        self._wait, self._away_at = FIRST_WAIT, 0.0

    def __repr__(self) -> str:
        return f"<InTransactions of {self._memory.app}>"

    async def run(self, job: str, sessions: Sessions, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run an ``async def`` once. See `Transactions.run`."""
        run = self._begin(job)
        attempt = 1
        while True:
            session = sessions()
            try:
                # Two steps of SQLAlchemy, not one for each statement: a step costs as much as one.
                done = await session.run_sync(run.open)
                if done is not None:
                    return run.result_of(done)
                with run.of_handler():
                    result = run.check(await work(session))
                await session.run_sync(run.finish, result)
                self._wait = FIRST_WAIT
                return result
            except Exception as error:  # noqa: BLE001 - a handler raises what it likes
                await session.close()
                run.closed = True
                self._judge(run, error, attempt)
            finally:
                if not run.closed:  # in a task of its own: this one may be cancelled once more
                    await asyncio.shield(asyncio.ensure_future(session.close()))
            await asyncio.sleep(_pause(attempt))
            attempt += 1

    def run_now(self, job: str, sessions: Sessions, work: Callable[[Any], Any]) -> Any:
        """Run a plain ``def`` once, in its thread. See `Transactions.run_now`."""
        run = self._begin(job)
        attempt = 1
        while True:
            session = sessions()
            try:
                done = run.open(session)
                if done is not None:
                    return run.result_of(done)
                with run.of_handler():
                    result = run.check(work(session))
                run.finish(session, result)
                self._wait = FIRST_WAIT
                return result
            except Exception as error:  # noqa: BLE001 - a handler raises what it likes
                session.close()
                run.closed = True
                self._judge(run, error, attempt)
            finally:
                if not run.closed:
                    session.close()
            time.sleep(_pause(attempt))
            attempt += 1

    async def check(self) -> None:
        """See that the tables are there, and that sessions have transactions. A database that is
        away is waited for by the jobs.

        Raises:
            ConfigurationError: it is not so; says how to fix it.
        """
        jobs = self._runtime.registry.jobs.values()
        for sessions in {job.once for job in jobs if job.once is not None}:
            try:
                await self.look(sessions)
            except (DBAPIError, PoolTimeout, OSError) as error:
                log.warning("database away, jobs wait", extra={"error": _words(error)})

    async def look(self, sessions: Sessions) -> None:
        """See that the inbox is where these sessions are, and that they have transactions.

        Raises:
            ConfigurationError: it is not so; says how to fix it.
            DBAPIError, OSError: the database cannot be used.
        """
        session = sessions()
        try:
            if isinstance(session, AsyncSession):
                connection = await session.connection()
                await connection.run_sync(self._look)
            else:
                await in_own_thread(lambda: self._look_by(session), "amqpjobs inbox")
        finally:
            closed = session.close()
            if isawaitable(closed):
                await closed

    def _look_by(self, session: Session) -> None:
        self._look(session.connection())

    def _look(self, connection: Connection) -> None:
        check_transaction(connection)
        table = self._memory.outbox.inbox
        try:
            connection.execute(select(table.c.job).limit(1)).first()
        except DBAPIError as error:
            raise told(connection, table.fullname, error) from error

    def _begin(self, job: str) -> "_Run":
        context = current_context.get()
        definition = self._runtime.registry.jobs.get(job)
        if context is None or definition is None:
            raise RuntimeError(f"the job {job!r} runs in no worker")
        return _Run(self._memory, definition, context)

    def _judge(self, run: "_Run", error: Exception, attempt: int) -> None:
        """Return if the transaction is to be tried again at once.

        Raises:
            Snooze: later, and no attempt is used.
            Exception: what the handler has raised.
        """
        if succeeds_again(error):
            if attempt < AGAIN:
                return
            log.warning("transaction in the way of others, job waits", extra=run.context.log_keys())
            raise Snooze(PAUSE * 100 * (1 + random.random())) from error  # noqa: S311 - not a secret
        if run.in_handler and not (isinstance(error, DBAPIError) and is_away(error)):
            raise error
        if not run.in_handler and isinstance(error, CANNOT_BE_USED):
            self._away(run, error)
        if not is_away(error):
            raise error  # of a constraint that is checked at the commit, say
        self._away(run, error)

    def _away(self, run: "_Run", error: Exception) -> NoReturn:
        """The database is away: the job waits, and with it all of its queue in this worker."""
        now = time.monotonic()
        if now - self._away_at > FORGET:
            self._wait = FIRST_WAIT
        wait, self._away_at = self._wait, now
        self._wait = min(LONGEST_WAIT, wait * 2)
        log.warning(
            "database away, jobs wait",
            extra={**run.context.log_keys(), "error": _words(error), "pause_s": wait},
        )
        raise RateLimited(wait) from error


class _Run:
    """One run of a job in a transaction."""

    def __init__(self, memory: "Memory", definition: "Definition", context: RunContext) -> None:
        self._table = memory.outbox.inbox
        self._definition = definition
        self._largest = memory.client.runtime.settings.max_message_size
        self._entry = Entry(memory.app, definition.name, context.job_id, context.epoch)
        self.context = context
        # A durable job that waits for it is told of its result after the commit.
        parent = family_of(context.message.headers)
        self.asked = (
            context.message.reply_to is not None
            or bool(definition.keep_result)
            or (parent is not None and parent.part != "undo")
        )
        self.in_handler = self.closed = False
        self._transaction: SessionTransaction

    def of_handler(self) -> "_InHandler":
        return _InHandler(self)

    def open(self, session: Session) -> Done | None:
        """Begin, and note that the job is done. Whether it was before."""
        self.in_handler, self.closed = False, False
        _guard(type(session))
        self._transaction = session.begin()
        done = self.enter(session.connection())
        if done is not None:
            session.close()
            self.closed = True
        return done

    def enter(self, connection: Connection) -> Done | None:
        check_transaction(connection)
        try:
            return enter(connection, self._table, self._entry, now_of(connection.dialect.name))
        except DBAPIError as error:
            raise told(connection, self._table.fullname, error) from error

    def check(self, result: Any) -> Any:
        """A verdict that was returned: nothing is done yet, and nothing is kept."""
        if isinstance(result, Verdict):
            raise result
        if not self._transaction.is_active:
            raise ConfigurationError(
                f"the job {self._definition.name!r} has ended its transaction: with once= that is "
                "done when it returns. Use session.begin_nested() for a part that may fail"
            )
        return result

    def finish(self, session: Session, result: Any) -> None:
        """Keep what was returned, if somebody asks for it; commit."""
        if self.asked:
            self.keep(session.connection(), result)
        self._transaction.commit()
        session.close()
        self.closed = True

    def keep(self, connection: Connection, result: Any) -> None:
        try:
            data = dump_result(self._definition, result, self._largest)
        except InvalidResult:
            return  # whoever asks is told so
        keep_result(connection, self._table, self._entry, data)

    def result_of(self, done: Done) -> Any:
        log.info("job was done before", extra=self.context.log_keys())
        return None if done.result is None else load_result(self._definition, done.result)


_guarded: "weakref.WeakSet[type[Session]]" = weakref.WeakSet()


def _guard(kind: type[Session]) -> None:
    """See to it that sessions of this class are not committed by a handler of ``once=``."""
    if kind not in _guarded:
        _guarded.add(kind)
        event.listen(kind, "before_commit", _refuse)


def _refuse(session: Session) -> None:
    """Half of what a job does would be kept, and the job be taken for done."""
    if getattr(session_here(), "sync_session", session_here()) is not session:
        return
    if not session.in_nested_transaction():
        raise ConfigurationError(
            "a job with once= has committed its session: that is done when it returns. Leave it "
            "out, or use session.begin_nested() for a part that may fail"
        )


class _InHandler:
    """Errors in here are the handler's own."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    def __enter__(self) -> None:
        self._run.in_handler = True

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if error is None:
            self._run.in_handler = False


def _pause(attempt: int) -> float:
    return PAUSE * attempt * (0.5 + random.random() / 2)  # noqa: S311 - not a secret


def _words(error: Exception) -> str:
    inner = getattr(error, "orig", None) or error
    return f"{type(inner).__name__}: {inner}"
