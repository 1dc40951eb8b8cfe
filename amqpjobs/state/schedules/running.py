"""Whether the job that a schedule sent last has ended: a claim that its tick has written.

It is deleted behind the settlement of that job, and expires in the end. Changes when "still
running" means something else.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, delete, func, select

from amqpjobs.state.store.keys import key_of
from amqpjobs.state.store.tables import claims
from amqpjobs.state.store.upsert import insert_into

HELD = 86_400.0
"""Seconds after which a job counts as ended, whatever has become of it: its message may have been
purged, and then nothing ever tells."""


def claim_key(app: str, schedule: str) -> str:
    """The key of the claim of a schedule."""
    return key_of(f"schedule:{app}:{schedule}")


def running(
    connection: Connection, app: str, names: Sequence[str], now: float
) -> dict[str, tuple[str, float]]:
    """The jobs that have not ended, and until when that counts, by the names of their schedules."""
    by_key = {claim_key(app, name): name for name in names}
    rows = connection.execute(
        select(claims.c.key, claims.c.job_id, claims.c.expires_at).where(
            claims.c.key.in_(by_key), claims.c.expires_at > now
        )
    )
    return {by_key[row.key]: (row.job_id, row.expires_at) for row in rows}


def hold(
    connection: Connection, app: str, held: Iterable[tuple[str, str, str]], now: float
) -> None:
    """From now on these jobs are the ones that have not ended.

    Args:
        held: schedule, job and id of each.
    """
    values = [
        {
            "key": claim_key(app, schedule), "app": app, "job": job, "job_id": job_id, "at": now,
            "expires_at": now + HELD,
        }
        for schedule, job, job_id in held
    ]  # fmt: skip
    if not values:
        return
    statement = insert_into(connection, claims).values(values)
    given = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[claims.c.key],
            set_={
                "job": given.job, "job_id": given.job_id, "at": given["at"],
                "expires_at": given.expires_at, "token": claims.c.token + 1,
            },
        )
    )  # fmt: skip


def let_go(connection: Connection, app: str, ended: Iterable[tuple[str, str]]) -> list[str]:
    """These jobs have ended.

    Args:
        ended: schedule and id of each.

    Returns:
        The schedules whose last job was one of them.
    """
    free = []
    for schedule, job_id in ended:
        key = claim_key(app, schedule)
        gone = connection.execute(
            delete(claims).where(
                claims.c.key == key, claims.c.app == app, claims.c.job_id == job_id
            )
        )
        if gone.rowcount:
            free.append(schedule)
    return free


def count(connection: Connection, app: str, now: ColumnElement[float]) -> int:
    """How many schedules have a job that has not ended."""
    query = select(func.count()).select_from(claims)
    query = query.where(claims.c.app == app, _of_schedules(app), claims.c.expires_at > now)
    return connection.scalar(query) or 0


def _of_schedules(app: str) -> ColumnElement[bool]:
    return claims.c.key.startswith(f"schedule:{app}:", autoescape=True)


def prune(connection: Connection, app: str, now: ColumnElement[float]) -> None:
    """Forget claims that have expired."""
    old = claims.c.expires_at < now - HELD
    connection.execute(delete(claims).where(claims.c.app == app, _of_schedules(app), old))
