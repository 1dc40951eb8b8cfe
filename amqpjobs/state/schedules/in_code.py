"""The schedules in the code of an app become rows, and go when the newest release has them no more.

During a deployment processes of two releases run. A release is known by a hash of the schedules and
jobs of its code. Of two releases whose processes run, the one counts that appeared later, so that
an old process that is started again changes nothing. When no process of the newer one was seen for
some minutes, the older one counts again: a release was taken back. Changes when releases are told
apart in another way.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, delete, select

from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.job import Job
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.schedule.dues import next_after
from amqpjobs.jobs.schedule.schedule import Schedule
from amqpjobs.state.schedules.messages import template_for
from amqpjobs.state.schedules.rows import (
    columns_of,
    forget_waiting,
    next_of,
    set_columns,
    time_now,
)
from amqpjobs.state.store.tables import releases, schedules
from amqpjobs.state.store.upsert import insert_into

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.state.store.durable import DurableStore

log = logging.getLogger("amqpjobs.schedules")

SEEN = 60.0
"""Seconds after which a process tells again which schedules its code has."""

GONE = 180.0
"""Seconds without a process of a release, after which an older one counts again."""

FORGOTTEN = 86_400.0
"""Seconds without a process of the release that has written a schedule, after which it is retired
where nobody knows its job. Before that a process may know a part of the jobs only."""

PRUNED = 30 * 86_400.0
"""Seconds after which a release is forgotten."""


@dataclass(frozen=True, slots=True)
class Coded:
    """A schedule in the code.

    Attributes:
        name: of the schedule.
        schedule: when it is due.
        template: its message.
    """

    name: str
    schedule: Schedule
    template: Prepared


async def coded_of(client: "Client") -> list[Coded]:
    """The schedules in the code of an app, with the messages that they send. One whose message
    cannot be made is logged, and left as it is in the store."""
    registry = client.runtime.registry
    found = []
    for name, declared in registry.schedules.items():
        try:
            message: Message[object] = Job(registry.jobs[declared.job]).message()
            template = await template_for(client, message)
        except Exception:
            log.exception("schedule without a message", extra={"schedule": name})
            continue
        found.append(Coded(name, declared.schedule, template))
    return found


def fingerprint_of(coded: Sequence[Coded], jobs: Sequence[str]) -> str:
    """A hash of the schedules of a release and of its jobs: without a job, a schedule is gone."""
    values = [
        (each.name, {name: _readable(v) for name, v in _columns(each).items()}) for each in coded
    ]
    text = json.dumps([sorted(values, key=lambda value: value[0]), sorted(jobs)], sort_keys=True)
    return sha256(text.encode()).hexdigest()


def _columns(coded: Coded) -> dict[str, Any]:
    return columns_of(coded.schedule, coded.template)


def _readable(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


@dataclass(frozen=True, slots=True)
class Changes:
    """What a release has changed: names of schedules.

    Attributes:
        put: new, or changed.
        retired: gone from the code.
    """

    put: tuple[str, ...]
    retired: tuple[str, ...]


def sync(
    connection: Connection,
    app: str,
    release: str,
    coded: Sequence[Coded],
    jobs: Sequence[str],
    now: ColumnElement[float],
) -> Changes:
    """Have the rows say what the code says, unless a newer release runs.

    Args:
        app: the name of the app.
        release: the fingerprint of this one.
        coded: its schedules.
        jobs: all that it knows.
        now: the time of the database.
    """
    moment = time_now(connection, now)
    syncing = _Syncing(connection, app, release, moment)
    syncing.seen()
    query = select(schedules).where(schedules.c.app == app)
    names = [each.name for each in coded]
    there = query.where(schedules.c.in_code | schedules.c.name.in_(names))
    rows = {row.name: row for row in connection.execute(there)}
    put = [each.name for each in coded if syncing.put(rows.get(each.name), each)]
    gone = [row for name, row in sorted(rows.items()) if name not in names]
    retired = [row.name for row in gone if syncing.retire(row, jobs)]
    return Changes(tuple(put), tuple(retired))


async def sync_code(client: "Client", store: "DurableStore") -> None:
    """The same for the code of this process."""
    registry = client.runtime.registry
    coded, jobs = await coded_of(client), list(registry.jobs)
    release = fingerprint_of(coded, jobs)
    await store.run(sync, registry.name, release, coded, jobs, store.now)


class _Syncing:
    """One release, and what it may change."""

    def __init__(self, connection: Connection, app: str, release: str, moment: float) -> None:
        self._connection = connection
        self._app = app
        self._release = release
        self._moment = moment
        self._known: dict[str, Any] = {}

    def seen(self) -> None:
        """A process of it runs."""
        old = releases.c.seen_at < self._moment - PRUNED
        self._connection.execute(delete(releases).where(releases.c.app == self._app, old))
        values = {
            "app": self._app, "fingerprint": self._release, "first_at": self._moment,
            "seen_at": self._moment,
        }  # fmt: skip
        statement = insert_into(self._connection, releases).values(**values)
        keys = [releases.c.app, releases.c.fingerprint]
        seen = {"seen_at": self._moment}
        self._connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=seen))
        rows = self._connection.execute(select(releases).where(releases.c.app == self._app))
        self._known = {row.fingerprint: row for row in rows}

    def _is_newer(self, release: str | None) -> bool:
        """Whether it is newer than this one, and runs."""
        other, own = self._known.get(release or ""), self._known[self._release]
        if other is None or release == self._release:
            return False
        alive = other.seen_at > self._moment - GONE
        return bool(alive and (other.first_at, release) > (own.first_at, self._release))

    def put(self, row: Any, coded: Coded) -> bool:
        """Whether that changed anything but who has written it."""
        values = _columns(coded)
        if row is None:
            values |= {"app": self._app, "name": coded.name, "since": self._moment}
            values |= {"in_code": True, "release": self._release}
            values["next_at"] = next_after(coded.schedule, self._moment)
            statement = insert_into(self._connection, schedules).values(**values)
            made = self._connection.execute(statement.on_conflict_do_nothing())
            return bool(made.rowcount)
        if self._is_newer(row.release):
            return False
        same = row.in_code and row.retired_at is None
        if same and all(getattr(row, name) == value for name, value in values.items()):
            if row.release != self._release:
                set_columns(self._connection, self._app, row.name, release=self._release)
            return False
        if row.spec != values["spec"] or row.retired_at is not None:
            values |= {"since": self._moment, "waiting_at": None}
            values["next_at"] = next_of(
                coded.schedule, self._moment, row.paused_at, row.paused_until
            )
            self._skip_waiting(row, "the schedule was changed")
        values |= {"in_code": True, "release": self._release, "retired_at": None}
        set_columns(self._connection, self._app, row.name, **values)
        return True

    def retire(self, row: Any, jobs: Sequence[str]) -> bool:
        """Whether it is gone from now on."""
        if row.retired_at is not None or self._is_newer(row.release):
            return False
        known = row.job in jobs
        if not known:
            owner = self._known.get(row.release or "")
            if owner is not None and owner.seen_at > self._moment - FORGOTTEN:
                return False
        self._skip_waiting(row, "the schedule is gone from the code")
        set_columns(
            self._connection, self._app, row.name, retired_at=self._moment, next_at=None,
            waiting_at=None, release=self._release if known else None,
        )  # fmt: skip
        return True

    def _skip_waiting(self, row: Any, reason: str) -> None:
        forget_waiting(self._connection, self._app, row.name, row.waiting_at, reason)
