"""Writes similar pieces of work with few statements: the parallel calls of one job, and the ends of
the jobs that one job waits for. Mixed pieces are written one by one.

Changes when another write of a durable job may come in thousands.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, select, update

from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.family import Family
from amqpjobs.state.durable.ends import end_step, outcome_of, wake_locked
from amqpjobs.state.durable.rows import Owner, locked, of, put, values_of
from amqpjobs.state.durable.values import DONE, FAILED, WAITING, Ended, Step, Told
from amqpjobs.state.limits.keys import among
from amqpjobs.state.outbox.rows import add_all
from amqpjobs.state.store.tables import outbox, steps
from amqpjobs.state.store.upsert import insert_into


@dataclass(frozen=True, slots=True)
class Piece:
    """A function that works on one durable job, and what it is called with after its connection.

    Attributes:
        job_id: of the job.
        function: which.
        args, kwargs: what it is called with.
    """

    job_id: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def __call__(self, connection: Connection) -> Any:
        """Do it."""
        return self.function(connection, *self.args, **self.kwargs)


def run_pieces(connection: Connection, pieces: Sequence[Piece]) -> list[Any]:
    """Do all, in their order.

    Returns:
        What each returns.
    """
    results: list[Any] = []
    for (_, function), run in groupby(pieces, lambda piece: (piece.job_id, piece.function)):
        same = list(run)
        together = BULK.get(function) if len(same) > 1 else None
        done = None if together is None else together(connection, same)
        results += [piece(connection) for piece in same] if done is None else done
    return results


def _put_all(connection: Connection, pieces: Sequence[Piece]) -> list[bool] | None:
    """Calls of one run. None if they are not of one kind."""
    owner, token, _, now = pieces[0].args
    found: dict[str, tuple[Step, Prepared]] = {}
    for piece in pieces:
        step, message = piece.args[2], piece.kwargs.get("message")
        if piece.args[:2] != (owner, token) or piece.kwargs.get("wait") is not None:
            return None
        if step.state != WAITING or message is None or message.due is not None:
            return None
        found[step.name] = step, message
    if len(found) < len(pieces):
        return None
    row = locked(connection, owner.app, owner.job_id)
    if row is None or (row.token, row.epoch) != (token, owner.epoch):
        return [False] * len(pieces)
    written = _insert(connection, owner, list(found.values()), now)
    sent = [message for name, (_, message) in found.items() if name in written]
    add_all(connection, outbox, owner.app, sent, now)
    return [piece.args[2].name in written for piece in pieces]


def _insert(
    connection: Connection,
    owner: Owner,
    calls: list[tuple[Step, Prepared]],
    now: ColumnElement[float],
) -> set[str]:
    """The names of those that were written: what has ended meanwhile is not."""
    rows = [values_of(owner, step, now, message, None) for step, message in calls]
    given = dict.fromkeys(key for row in rows for key in row)
    for name in ("started_at", "sent_at"):
        del given[name]
    insert = insert_into(connection, steps).values(started_at=now, sent_at=now)
    keys = ("app", "job_id", "epoch", "name", "n")
    changed = {name: insert.excluded[name] for name in (*given, "sent_at") if name not in keys}
    made = insert.on_conflict_do_update(
        index_elements=["app", "job_id", "epoch", "name"], set_=changed,
        where=steps.c.state == WAITING,
    ).returning(steps.c.name)  # fmt: skip
    values = [{name: row.get(name) for name in given} for row in rows]
    return {row.name for row in connection.execute(made, values)}


ENDS: Final = (
    ("to_state", "state"), ("to_result", "result"), ("to_error", "error")
)  # fmt: skip


def _end_all(connection: Connection, pieces: Sequence[Piece]) -> list[Told] | None:
    """Ends of what one job waits for. None if they are not of one kind."""
    app, first, _, _, now = pieces[0].args
    ends: dict[str, tuple[str, Ended]] = {}
    for piece in pieces:
        _, family, child_id, ended, _ = piece.args
        if family != Family(first.parent, first.epoch, family.step):
            return None
        ends[family.step] = child_id, ended
    if len(ends) < len(pieces):
        return None
    owner = Owner(app, first.parent, first.epoch)
    row = locked(connection, app, owner.job_id)
    if row is None:
        return [Told()] * len(pieces)
    mine = and_(of(owner), among(connection, steps.c.name, ends), steps.c.state == WAITING)
    waits = {
        found.name
        for found in connection.execute(select(steps.c.name, steps.c.child_id).where(mine))
        if found.child_id == ends[found.name][0]
    }
    if waits:
        _end(connection, owner, [(name, ends[name][1]) for name in waits], now)
    # What has ended before may be done now: see `end_step`.
    told = [Told() if piece.args[1].step in waits else piece(connection) for piece in pieces]
    if waits and wake_locked(connection, owner, row, now):
        told[0] = Told(woken=told[0].woken + 1)
    return told


def _end(
    connection: Connection,
    owner: Owner,
    ends: list[tuple[str, Ended]],
    now: ColumnElement[float],
) -> None:
    one = and_(of(owner), steps.c.name == bindparam("of_name"), steps.c.state == WAITING)
    columns = {name: bindparam(key, type_=steps.c[name].type) for key, name in ENDS}
    gone = {"properties": None, "body": None, "sent_at": None}
    values = []
    for name, ended in ends:
        outcome = outcome_of(ended) | {"state": DONE if ended.error is None else FAILED}
        values.append({"of_name": name, **{key: outcome[column] for key, column in ENDS}})
    connection.execute(update(steps).where(one).values(ended_at=now, **columns, **gone), values)


BULK: Final[Mapping[Callable[..., Any], Callable[..., list[Any] | None]]] = {
    put: _put_all,
    end_step: _end_all,
}
"""What is written together, and how."""
