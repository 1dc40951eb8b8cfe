"""Reads the status of durable jobs. Changes when a status has another field."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, func, select

from amqpjobs.jobs.durable.status import DurableStatus, MapProgress, StepStatus
from amqpjobs.jobs.message.ids import check_job_id
from amqpjobs.state.durable.progress import progress_of
from amqpjobs.state.durable.rows import Owner, of
from amqpjobs.state.durable.values import MAP, RUNNING, SUSPENDED, UNDO_FAILED, UNDOING, Failed
from amqpjobs.state.store.tables import durable, steps

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

SHOWN = 200
"""Characters of a result."""

MOST = 10_000
"""Steps that are shown, the first ones."""

JOB = tuple(
    durable.c[name]
    for name in (
        "job_id", "job", "state", "epoch", "routing_key", "created_at", "changed_at", "deadline",
        "cancel_reason", "result", "error", "parent_id", "parent_step",
    )
)  # fmt: skip

STEP = tuple(
    steps.c[name]
    for name in (
        "name", "kind", "state", "attempts", "started_at", "ended_at", "due_at", "awaited",
        "result", "error", "cursor", "child", "child_id", "undo", "undo_state", "undo_id",
        "undo_error",
    )
)  # fmt: skip


async def look(memory: "Memory", job_id: str) -> DurableStatus | None:
    """The status of a durable job; None if the job has not begun, or is not durable."""
    check_job_id(job_id)
    store = await memory.store()
    return await store.run(status_of, memory.app, job_id, store.now)


def status_of(
    connection: Connection, app: str, job_id: str, now: ColumnElement[float]
) -> DurableStatus | None:
    """See `look`."""
    query = select(*JOB).where(durable.c.app == app, durable.c.job_id == job_id)
    row = connection.execute(query).first()
    if row is None:
        return None
    owner = Owner(app, job_id, row.epoch)
    mine = select(*STEP).where(of(owner)).order_by(steps.c.n, steps.c.name).limit(MOST)
    rows = connection.execute(mine).all()
    maps = {
        each.name: progress_of(connection, owner, each.name, now)
        for each in rows
        if each.kind == MAP
    }
    return DurableStatus(
        row.job_id, row.job, row.state, row.epoch, row.routing_key, row.created_at, row.changed_at,
        row.deadline, row.cancel_reason if row.state in ("running", "suspended") else None,
        shortened(row.result), words_of(row.error), row.parent_id, row.parent_step,
        tuple(_step(each, maps.get(each.name)) for each in rows),
    )  # fmt: skip


def _step(row: Any, progress: MapProgress | None) -> StepStatus:
    return StepStatus(
        row.name, row.kind, row.state, row.attempts, row.started_at, row.ended_at, row.due_at,
        bool(row.awaited), shortened(row.result), words_of(row.error), row.cursor, row.child,
        row.child_id, row.undo, row.undo_state, row.undo_id, words_of(row.undo_error),
        progress,
    )  # fmt: skip


def shortened(result: bytes | None) -> str | None:
    """The beginning of a result."""
    if result is None:
        return None
    text = bytes(result[: SHOWN * 4 + 4]).decode(errors="replace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def words_of(error: str | None) -> str | None:
    """Why something failed, in words."""
    failed = Failed.of_text(error)
    if failed is None:
        return None
    where = f" (job {failed.job_id})" if failed.job_id else ""
    return f"{failed.error}: {failed.message}{where}"


OPEN = (RUNNING, SUSPENDED, UNDOING, UNDO_FAILED)
"""States that metrics have."""


def open_by_state(connection: Connection, app: str) -> dict[str, int]:
    """The number of durable jobs in each state that metrics report."""
    query = (
        select(durable.c.state, func.count())
        .where(durable.c.app == app, durable.c.state.in_(OPEN))
        .group_by(durable.c.state)
    )
    found: dict[str, int] = {state: n for state, n in connection.execute(query)}  # noqa: C416
    return {state: found.get(state, 0) for state in OPEN}
