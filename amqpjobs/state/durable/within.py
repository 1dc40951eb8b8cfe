"""Steps whose mark is written by a transaction of the handler's own: `ctx.step_in`.

Changes when another kind of transaction can have one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic_core import from_json
from sqlalchemy import Connection, and_, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durable.running import StepInTransaction
from amqpjobs.state.durable.rows import of, put
from amqpjobs.state.durable.run import DurableRun
from amqpjobs.state.durable.typed import NO_HINT, Typed
from amqpjobs.state.durable.values import DONE, STEP, Step
from amqpjobs.state.store.runs import now_of
from amqpjobs.state.store.tables import durable, steps
from amqpjobs.state.store.transactions import check_transaction, told


@asynccontextmanager
async def step_in(run: DurableRun, session: Any, name: str) -> AsyncIterator[StepInTransaction]:
    """See `Steps.step_in`."""
    connection = await _connection(session, name)
    known = await connection.run_sync(_known, run, name)
    if known is not None:
        yield StepInTransaction(False, from_json(known))
        return
    step = StepInTransaction()
    number = run.number(run.known.get(name))
    if not await connection.run_sync(_mark, run, Step(name, STEP, number, DONE, result=b"null")):
        run.supersede()
    with run.in_transaction(name):
        yield step
    if step.result is not None:
        data = Typed(f"the step {name!r}", NO_HINT).dump(step.result)
        await connection.run_sync(_keep, run, name, data)


async def _connection(session: Any, name: str) -> AsyncConnection:
    if isinstance(session, AsyncSession):
        return await session.connection()
    if isinstance(session, AsyncConnection):
        return session
    raise ConfigurationError(
        f"ctx.step_in(session, {name!r}) takes an AsyncSession or an AsyncConnection of "
        f"SQLAlchemy, not {session!r}"
    )


def _known(connection: Connection, run: DurableRun, name: str) -> bytes | None:
    """The stored result of the step, if it is done. An earlier run may have died after it."""
    check_transaction(connection)
    query = select(steps.c.result).where(of(run.owner), steps.c.name == name, steps.c.state == DONE)
    try:
        row = connection.execute(query).first()
        if row is not None:
            return bytes(row.result)
        # Until this transaction has ended, no newer run of the job begins.
        mine = and_(durable.c.app == run.owner.app, durable.c.job_id == run.owner.job_id)
        locked = select(durable.c.token).where(mine).with_for_update()
        if connection.execute(locked).first() is None:
            raise ConfigurationError(
                f"ctx.step_in: the database {connection.engine.url.database!r} is not the one of "
                "AMQPJOBS_STORE_URL, which has the rows of this job: set AMQPJOBS_STORE_URL to it, "
                "or use once= for a job"
            )
    except DBAPIError as error:
        raise told(connection, steps.name, error) from error
    return None


def _mark(connection: Connection, run: DurableRun, step: Step) -> bool:
    now = now_of(connection.dialect.name)
    return put(connection, run.owner, run.token, step, now)


def _keep(connection: Connection, run: DurableRun, name: str, data: bytes) -> None:
    mine = and_(of(run.owner), steps.c.name == name)
    connection.execute(update(steps).where(mine).values(result=data))
