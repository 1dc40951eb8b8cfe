"""One transaction of a worker: jobs that have ended give their slots up, those that wait are woken,
and those that start take theirs.

Changes when a job gets another thing at its start, or gives it up at its end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import ColumnElement, Connection

from amqpjobs.client.prepared import Prepared
from amqpjobs.state.limits.claims import Claim, claim, end_claims
from amqpjobs.state.limits.places import Hold, Holder, Places, Want
from amqpjobs.state.limits.waiting import put, waiting_for, waits_already, wake

REPLACED = 20
"""Jobs that wait, and that a newer one replaces, at a time."""


@dataclass(frozen=True, slots=True)
class Starting:
    """A job that is about to run.

    Attributes:
        holder: the job.
        wants: the slots that it needs, in the order of their keys.
        message: makes what waits in its place, if a slot is busy.
        deadline: after which it need not wait.
        claim: that it has while it runs; None if it is not unique.
        unclaimed: its claim ends now.
    """

    holder: Holder
    wants: tuple[Want, ...]
    message: Callable[[], Prepared]
    deadline: float | None = None
    claim: Claim | None = None
    unclaimed: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """A run that has ended.

    Attributes:
        holds: the slots that it had.
        abandoned: keys of slots that may be kept for it, if it did not take any.
        job_id: of the job.
        copy: the token of its message.
        over: whether the job itself has ended, and with it its claim.
    """

    holds: tuple[Hold, ...]
    abandoned: tuple[str, ...]
    job_id: str
    copy: str = ""
    over: bool = False

    @property
    def keys(self) -> set[str]:
        """Of its slots."""
        return {hold.key for hold in self.holds} | set(self.abandoned)


@dataclass(frozen=True, slots=True)
class Taken:
    """It may run.

    Attributes:
        holds: its slots.
    """

    holds: tuple[Hold, ...]


@dataclass(frozen=True, slots=True)
class Busy:
    """A slot is busy.

    Attributes:
        want: which.
        waits: whether it waits as a row now; else it is not run.
        doubled: it waited already.
        replaces: the ids of jobs that it replaces.
    """

    want: Want
    waits: bool
    doubled: bool = False
    replaces: tuple[str, ...] = ()


Fate: TypeAlias = Taken | Busy


def turn(
    connection: Connection,
    app: str,
    now: ColumnElement[float],
    endings: Sequence[Ending],
    starting: Sequence[Starting],
) -> tuple[list[Fate], int]:
    """Run it.

    Returns:
        What became of each that starts, and how many that waited were sent.
    """
    keys = {key for ending in endings for key in ending.keys}
    keys |= {want.key for each in starting for want in each.wants}
    places = Places.of(connection, app, now, keys)
    for ending in endings:
        for hold in ending.holds:
            places.free(hold)
        for key in ending.abandoned:
            places.abandon(key, ending.job_id, ending.copy)
    ended = {ending.job_id for ending in endings if ending.over}
    end_claims(connection, app, ended | {s.holder.job_id for s in starting if s.unclaimed})
    # Those that waited come first.
    woken = wake(connection, places, places.freed, now)
    places.freed.clear()
    fates = [_start(connection, places, now, each) for each in starting]
    woken += wake(connection, places, places.freed, now)
    places.write(connection, now)
    return fates, woken


def _start(
    connection: Connection, places: Places, now: ColumnElement[float], starting: Starting
) -> Fate:
    taken = places.take(starting.holder, starting.wants)
    if not isinstance(taken, Want):
        if starting.claim is not None:
            claim(connection, places.app, starting.claim, now)
        return Taken(tuple(taken))
    busy = _gravest(places, starting, taken)
    if busy.when_busy == "skip":
        return Busy(busy, waits=False)
    holder = starting.holder
    if holder.again and waits_already(connection, holder.job_id, holder.copy):
        return Busy(busy, waits=True, doubled=True)
    replaces: tuple[str, ...] = ()
    if busy.when_busy == "replace":
        earlier = [*places.holders(busy.key), *waiting_for(connection, busy.key, REPLACED)]
        replaces = tuple(dict.fromkeys(each for each in earlier if each != holder.job_id))
    put(
        connection, places.app, busy, starting.message(), now,
        copy=holder.copy, deadline=starting.deadline,
    )  # fmt: skip
    return Busy(busy, waits=True, replaces=replaces)


def _gravest(places: Places, starting: Starting, first: Want) -> Want:
    """Of the slots that are busy, the one that says what comes of the job: a job that is to be
    skipped does not wait for another limit first."""
    busy = [want for want in starting.wants if places.live(want.key) >= want.places]
    for word in ("skip", "replace"):
        for want in busy:
            if want.when_busy == word:
                return want
    return first
