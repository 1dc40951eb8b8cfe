"""Emits the progress of maps as events of the durable jobs that wait for them.

Changes when such an event has another field.
"""

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, select

from amqpjobs.jobs.message.events import SUSPENDED as EVENT
from amqpjobs.jobs.message.events import Announcement, clock, readable
from amqpjobs.jobs.message.family import Family
from amqpjobs.jobs.message.headers import read_leniently
from amqpjobs.state.durable.progress import progress_of
from amqpjobs.state.durable.rows import Owner
from amqpjobs.state.durable.values import SUSPENDED
from amqpjobs.state.outbox.rows import properties_in
from amqpjobs.state.store.tables import durable

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.state.durable.groups import Groups

EVERY = 2.0
"""Seconds between two events of one map, of one process."""

MOST = 1_000
"""Maps of which the last event is remembered."""


class TellsProgress:
    """Emits the progress of maps whose chunks have ended in this process.

    Args:
        client: of the app.
        groups: runs what is read.
    """

    def __init__(self, client: "Client", groups: "Groups") -> None:
        self._client = client
        self._groups = groups
        self._told: dict[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        return f"<TellsProgress: {len(self._told)} maps>"

    def wanted(self, family: Family) -> bool:
        """Whether the next event of a map is due, and any consumer receives events."""
        publisher = self._client.opened
        if publisher is None or not publisher.announcements.listening:
            return False
        key, now = (family.parent, family.step), time.monotonic()
        if now - self._told.get(key, 0.0) < EVERY:
            return False
        if len(self._told) >= MOST:
            self._told.clear()
        self._told[key] = now
        return True

    async def tell(self, owner: Owner, name: str, now: ColumnElement[float]) -> None:
        """Emit the progress of a map.

        Raises:
            StoreUnavailable: the store is away.
        """
        found = await self._groups.run(owner.job_id, event_of, owner, name, now)
        publisher = self._client.opened
        if found is not None and publisher is not None:
            publisher.announcements.add(found)


def event_of(
    connection: Connection, owner: Owner, name: str, now: ColumnElement[float]
) -> Announcement | None:
    """How far a map is, as an event; None for a job that does not wait, or has no status."""
    columns = durable.c.job, durable.c.tracked, durable.c.properties
    row: Any = connection.execute(
        select(*columns).where(
            durable.c.app == owner.app, durable.c.job_id == owner.job_id,
            durable.c.epoch == owner.epoch, durable.c.state == SUSPENDED,
        )
    ).first()  # fmt: skip
    if row is None or row.tracked is None:
        return None
    progress = progress_of(connection, owner, name, now)
    if progress is None:
        return None
    attempt = read_leniently(properties_in(row.properties).headers).attempt
    ended = progress.done + progress.failed
    fraction = ended / max(1, progress.total or progress.sent)
    details = {"progress": min(1.0, fraction), "detail": readable(f"{name}: {progress}")}
    return (
        owner.job_id, row.job, row.tracked, EVENT, owner.epoch, attempt, clock(), 0.0, details
    )  # fmt: skip
