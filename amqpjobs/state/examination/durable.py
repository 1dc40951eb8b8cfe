"""Looks at the durable jobs of an app. Changes when there is more to be said of them."""

from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select

from amqpjobs.errors import AmqpJobsError
from amqpjobs.state.durable.values import RUNNING, SUSPENDED, UNDO_FAILED, UNDOING
from amqpjobs.state.examination.finding import Finding
from amqpjobs.state.store.tables import durable

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

NAMED = 3
"""Jobs that are named."""


async def examine_durable(memory: "Memory") -> list[Finding]:
    """How many durable jobs run and wait, and which could not be undone; nothing for an app that
    has none."""
    if not any(job.durable for job in memory.client.runtime.registry.jobs.values()):
        return []
    try:
        store = await memory.store()
        counts, failed = await store.run(look, memory.app)
    except AmqpJobsError as error:
        return [Finding("durable", "error", str(error), "start the database: jobs wait for it")]
    words = f"{counts.get(RUNNING, 0)} running, {counts.get(SUSPENDED, 0)} waiting"
    if counts.get(UNDOING):
        words += f", {counts[UNDOING]} being undone"
    if not failed:
        return [Finding("durable", "ok", words)]
    more = ", and others" if counts[UNDO_FAILED] > len(failed) else ""
    words = f"{counts[UNDO_FAILED]} could not be undone: {', '.join(failed)}{more}"
    fix = "amqpjobs show JOB_ID says why; correct the cause, then amqpjobs undo JOB_ID"
    return [Finding("durable", "error", words, fix)]


def look(connection: Connection, app: str) -> tuple[dict[str, int], list[str]]:
    """How many jobs are in each state, and the ids of some whose undo has failed."""
    counted = select(durable.c.state, func.count()).where(durable.c.app == app)
    rows = connection.execute(counted.group_by(durable.c.state)).all()
    counts: dict[str, int] = {state: number for state, number in rows}  # noqa: C416 - typed rows
    failed = select(durable.c.job_id).where(durable.c.app == app, durable.c.state == UNDO_FAILED)
    named = connection.execute(failed.order_by(durable.c.changed_at).limit(NAMED))
    return counts, [row.job_id for row in named]
