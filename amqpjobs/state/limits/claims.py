"""Claims: one row for each unique job that has not ended. Functions of a connection.

Changes when a claim is made, or ends, in another way.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from amqpjobs.state.limits.keys import among
from amqpjobs.state.store.tables import claims

AGAIN = 5
"""How often a claim is tried whose holder ends at the same moment."""

PRUNED = 1000
"""Claims that are forgotten at a time."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that a job wants, or has.

    Attributes:
        key: as it is stored.
        job: its name.
        job_id: of the job.
        seconds: from now, after which it is over in any case.
    """

    key: str
    job: str
    job_id: str
    seconds: float


def claim(
    connection: Connection,
    app: str,
    wanted: Claim,
    now: ColumnElement[float],
    *,
    again: bool = True,
) -> str | None:
    """Claim a key for a job, unless another one has it.

    Args:
        again: whether a job that has it may claim it once more.

    Returns:
        None if the job has it now; else the id of the one that has it.
    """
    kind = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = kind.insert(claims).values(
        key=wanted.key, app=app, job=wanted.job, job_id=wanted.job_id, at=now,
        expires_at=now + wanted.seconds,
    )  # fmt: skip
    new = {name: statement.excluded[name] for name in ("job", "job_id", "at", "expires_at")}
    over = claims.c.expires_at <= now
    free = or_(over, claims.c.job_id == statement.excluded.job_id) if again else over
    upsert = statement.on_conflict_do_update(
        index_elements=["key"], set_={**new, "token": claims.c.token + 1}, where=free
    ).returning(claims.c.job_id)
    held = select(claims.c.job_id).where(claims.c.key == wanted.key)
    for _ in range(AGAIN):
        if connection.execute(upsert).first() is not None:
            return None
        theirs = connection.execute(held).scalar()
        if theirs is not None:
            return str(theirs)
    return None


def end_claims(connection: Connection, app: str, job_ids: Collection[str]) -> None:
    """These jobs have ended."""
    if job_ids:
        mine = and_(claims.c.app == app, among(connection, claims.c.job_id, sorted(job_ids)))
        connection.execute(delete(claims).where(mine))


def is_claimed(connection: Connection, key: str, now: ColumnElement[float]) -> bool:
    """Whether a job has a key."""
    there = select(claims.c.job_id).where(claims.c.key == key, claims.c.expires_at > now)
    return connection.execute(there).first() is not None


def prune_claims(connection: Connection, now: ColumnElement[float]) -> int:
    """Forget claims that are over. How many they were."""
    old = select(claims.c.key).where(claims.c.expires_at <= now).limit(PRUNED)
    return connection.execute(delete(claims).where(claims.c.key.in_(old))).rowcount
