"""The slots of some keys within a transaction: read once, decided here, written at its end.

The keys are locked, so that nobody else changes them meanwhile. Changes when a slot may be taken
otherwise.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from amqpjobs.jobs.message.ids import line_of
from amqpjobs.state.limits.keys import among, lock_keys
from amqpjobs.state.store.tables import slots

FREE = ""
"""The holder of a slot that nobody has."""

RESERVED = 3.0
"""Seconds for which a slot is kept for a job that waited for it, until its message is there."""


@dataclass(frozen=True, slots=True)
class Want:
    """A slot that a job needs.

    Attributes:
        key: of the limit.
        places: how many slots there are.
        lease: seconds.
        when_busy: see `Limit`.
    """

    key: str
    places: int = 1
    lease: float = 300.0
    when_busy: str = "wait"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who takes a slot: one publish of a job.

    Attributes:
        job_id: of the job.
        job: its name.
        copy: the token of the message; empty for a first publish.
        attempt: which run, with the epoch.
        again: whether RabbitMQ has delivered this message before.
        worker: that runs it; None for a slot that is only kept for it.
    """

    job_id: str
    job: str | None = None
    copy: str = ""
    attempt: int = 0
    again: bool = False
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """A slot that is held.

    Attributes:
        token: rises each time that a slot of the key is taken.
        lease: seconds.
    """

    key: str
    n: int
    token: int
    lease: float = 300.0


@dataclass(slots=True)
class _Place:
    key: str
    n: int
    holder: str = FREE
    copy: str = ""
    attempt: int = 0
    token: int = 0
    worker: str | None = None
    live: bool = False
    changed: bool = False
    lease: float = 0.0
    job: str | None = None

    def is_of(self, holder: Holder) -> bool:
        """Whether a job may take this one over, since it is its own: the same message comes again
        after its worker died, a later run of it comes, or it was kept for it. A duplicate of the
        job must wait."""
        if self.holder != holder.job_id:
            return False
        if self.copy == holder.copy:
            return holder.again or self.worker is None
        return holder.attempt > self.attempt and line_of(self.copy) == line_of(holder.copy)

    def give(self, holder: Holder, lease: float, token: int) -> None:
        self.holder, self.copy, self.attempt = holder.job_id, holder.copy, holder.attempt
        self.worker, self.job, self.token, self.lease = holder.worker, holder.job, token, lease
        self.live = self.changed = True

    def free(self) -> None:
        self.holder, self.copy, self.worker = FREE, "", None
        self.live, self.changed = False, True


@dataclass(slots=True)
class Places:
    """The slots of some keys.

    Attributes:
        freed: keys of which one was given up.
    """

    app: str
    _by_key: dict[str, dict[int, _Place]] = field(default_factory=dict)
    freed: set[str] = field(default_factory=set)

    @classmethod
    def of(
        cls, connection: Connection, app: str, now: ColumnElement[float], keys: Iterable[str]
    ) -> "Places":
        """Lock keys, and read their slots."""
        wanted = sorted(set(keys))
        places = cls(app)
        if not wanted:
            return places
        lock_keys(connection, wanted)
        columns = (
            slots.c.key, slots.c.n, slots.c.holder, slots.c.copy, slots.c.attempt, slots.c.token,
            slots.c.worker,
        )  # fmt: skip
        live = and_(slots.c.holder != FREE, slots.c.expires_at > now)
        query = select(*columns, live.label("live")).where(among(connection, slots.c.key, wanted))
        for row in connection.execute(query):
            place = _Place(
                row.key, row.n, row.holder, row.copy or "", row.attempt, row.token, row.worker,
                bool(row.live),
            )  # fmt: skip
            places._by_key.setdefault(row.key, {})[row.n] = place
        return places

    def _all(self) -> Iterator[_Place]:
        for key in sorted(self._by_key):
            yield from (self._by_key[key][n] for n in sorted(self._by_key[key]))

    def _of(self, key: str) -> dict[int, _Place]:
        return self._by_key.setdefault(key, {})

    def live(self, key: str) -> int:
        """How many slots of a key are held."""
        return sum(place.live for place in self._of(key).values())

    def holders(self, key: str) -> list[str]:
        """The jobs that hold them."""
        return [place.holder for place in self._of(key).values() if place.live]

    def take(self, holder: Holder, wants: Iterable[Want]) -> list[Hold] | Want:
        """Take all that a job wants, or nothing.

        Returns:
            What it holds; or the first that is busy. Then it has given up what was kept for it.
        """
        wanted = list(wants)
        found = [self._place_for(holder, want) for want in wanted]
        busy = next((w for w, place in zip(wanted, found, strict=True) if place is None), None)
        if busy is not None:
            for place in found:
                if place is not None and place.holder == holder.job_id and place.is_of(holder):
                    place.free()
                    self.freed.add(place.key)
            return busy
        return [
            self._give(place, holder, want.lease)
            for place, want in zip(found, wanted, strict=True)
            if place is not None
        ]

    def _place_for(self, holder: Holder, want: Want) -> _Place | None:
        there = self._of(want.key)
        own = next((place for place in there.values() if place.is_of(holder)), None)
        if own is not None:
            return own
        if self.live(want.key) >= want.places:
            return None
        n = next(n for n in range(len(there) + 1) if n not in there or not there[n].live)
        return there.get(n) or _Place(want.key, n)

    def _give(self, place: _Place, holder: Holder, lease: float) -> Hold:
        there = self._of(place.key)
        token = max((each.token for each in there.values()), default=0) + 1
        there[place.n] = place
        place.give(holder, lease, token)
        return Hold(place.key, place.n, token, lease)

    def keep(self, holder: Holder, want: Want) -> bool:
        """Keep a slot for a job that waits for it; whether there is one."""
        place = self._place_for(holder, want)
        if place is None:
            return False
        self._give(place, holder, RESERVED)
        return True

    def free(self, hold: Hold) -> None:
        """Give a slot up, unless it has another holder by now."""
        place = self._of(hold.key).get(hold.n)
        if place is not None and place.token == hold.token and place.holder != FREE:
            place.free()
        self.freed.add(hold.key)

    def free_dead(self) -> list[tuple[str, str]]:
        """Free those whose lease is over; their keys and holders."""
        dead = [place for place in self._all() if not place.live and place.holder != FREE]
        found = [(place.key, place.holder) for place in dead]
        for place in dead:
            place.free()
        return found

    def free_all(self, key: str) -> int:
        """Free all slots of a key. How many were held."""
        held = [place for place in self._of(key).values() if place.holder != FREE]
        for place in held:
            place.free()
        return len(held)

    def abandon(self, key: str, job_id: str, copy: str) -> None:
        """Give up what was kept for a job that ended before it could take it."""
        for place in self._of(key).values():
            if place.worker is None and (place.holder, place.copy) == (job_id, copy):
                place.free()
        self.freed.add(key)

    def write(self, connection: Connection, now: ColumnElement[float]) -> None:
        """Write what has changed."""
        given = [_row(self.app, place) for place in self._all() if place.changed and place.live]
        freed = [
            {"the_key": place.key, "the_n": place.n}
            for place in self._all()
            if place.changed and not place.live
        ]
        if given:
            _upsert(connection, now, given)
        if freed:
            connection.execute(_free_statement(), freed)


def _row(app: str, place: _Place) -> dict[str, Any]:
    return {
        "key": place.key, "n": place.n, "app": app, "job": place.job, "holder": place.holder,
        "copy": place.copy, "attempt": place.attempt, "token": place.token,
        "worker": place.worker, "lease": place.lease,
    }  # fmt: skip


def _upsert(connection: Connection, now: ColumnElement[float], rows: list[dict[str, Any]]) -> None:
    kind = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = kind.insert(slots).values(taken_at=now, expires_at=now + bindparam("lease"))
    new = {
        column.name: statement.excluded[column.name]
        for column in slots.columns
        if not column.primary_key
    }
    connection.execute(statement.on_conflict_do_update(index_elements=["key", "n"], set_=new), rows)


def _free_statement() -> Any:
    own = and_(slots.c.key == bindparam("the_key"), slots.c.n == bindparam("the_n"))
    return update(slots).where(own).values(holder=FREE, copy=None, worker=None, expires_at=0.0)


def renew(connection: Connection, now: ColumnElement[float], holds: list[Hold]) -> list[Hold]:
    """Hold slots for another lease.

    Returns:
        Those that have another holder by now.
    """
    keys = sorted({hold.key for hold in holds})
    lock_keys(connection, keys)
    query = select(slots.c.key, slots.c.n, slots.c.token, slots.c.holder)
    rows = connection.execute(query.where(among(connection, slots.c.key, keys)))
    there = {(row.key, row.n, row.token) for row in rows if row.holder != FREE}
    ours = [hold for hold in holds if (hold.key, hold.n, hold.token) in there]
    if ours:
        own = and_(slots.c.key == bindparam("the_key"), slots.c.n == bindparam("the_n"))
        statement = update(slots).where(own).values(expires_at=now + bindparam("lease"))
        connection.execute(
            statement, [{"the_key": h.key, "the_n": h.n, "lease": h.lease} for h in ours]
        )
    return [hold for hold in holds if (hold.key, hold.n, hold.token) not in there]
