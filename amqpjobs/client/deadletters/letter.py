"""Dead letters as values, and the groups that they fall into.

Changes when a dead letter has another field, or when grouping does.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from amqpjobs.jobs.message.compression import readable
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.headers import failure_of, origin_of
from amqpjobs.jobs.message.origin import job_id_of
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.queue.delays import destination_of

Kind: TypeAlias = Literal["dead", "parked", "unroutable"]
"""Dead letters; jobs that no worker knew; delayed jobs whose queue was gone."""

GROUPED_BY = 3
"""Innermost frames that make a group, of the few that a letter has."""

_FRAME = re.compile(r"(?P<file>.*):\d+ (?P<function>.*)", re.DOTALL)
_GROUP = re.compile(r"g-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where letters are.

    Attributes:
        name: the AMQP queue.
        queue: the app's queue that they are of; empty for the unroutable, which are of all.
    """

    kind: Kind
    name: str
    queue: str = ""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that was put aside.

    Attributes:
        place: the AMQP queue that it is in.
        queue: the app's queue that it is of; for an unroutable one the queue that is gone.
        target: the AMQP queue that it came from, and goes back to.
        properties: as they are; nothing in them is to be trusted.
        body: bytes, as they were published; empty where only the rest was asked for.
        size: of the body, in bytes.
        routing_key: with which it came into the place.
        failure: why it is there, as far as it says.
        time: since when it is there: seconds since the epoch, as far as it says.
        group: the id of its group.
    """

    place: str
    queue: str
    target: str
    properties: Properties
    body: bytes
    size: int
    routing_key: str
    failure: Failure | None
    time: float | None
    group: str

    @property
    def id(self) -> str | None:
        """The job's id. That of an event follows from the event's, as in the worker."""
        message_id, headers = self.properties.message_id, self.properties.headers
        origin = origin_of(headers)
        if origin is not None and origin.job_id is not None:
            return origin.job_id
        if message_id is None or origin is None:
            return message_id
        return job_id_of(message_id, self.target)

    @property
    def readable_body(self) -> bytes:
        """The body as it was before it was compressed, if it is and that can be undone."""
        return readable(self.body, self.properties.content_encoding)

    @property
    def job(self) -> str | None:
        """The job's name: what handled it, else what its message says."""
        handled = None if self.failure is None else self.failure.job
        return handled or self.properties.type


def letter_of(
    place: Place, lanes: frozenset[str], properties: Properties, body: bytes, routing_key: str
) -> Letter:
    """A message that was found in a place.

    Args:
        lanes: the app's AMQP queues: a letter that says it came from elsewhere goes to the queue
            whose letter it is.
    """
    failure = failure_of(properties.headers)
    queue = place.queue
    if place.kind == "unroutable":
        queue = target = destination_of(routing_key)
        failure = Failure("unroutable", f"it was delayed for {target!r}, which is gone")
    else:
        target = failure.queue if failure and failure.queue in lanes else queue
    time = failure.time if failure and failure.time is not None else _death(properties)
    group = group_of(failure, properties.type)
    return Letter(
        place.name, queue, target, properties, body, len(body), routing_key, failure, time, group
    )


def group_of(failure: Failure | None, job: str | None) -> str:
    """The id of the group of a failure: of the exception and the innermost places in the code,
    without line numbers and without the folder of a release; or, where nothing was raised, of the
    reason and the job."""
    if failure is not None and failure.exception:
        places = (_place(frame) for frame in failure.frames[:GROUPED_BY])
        parts: Iterable[str] = ("raised", failure.exception, *places)
    else:
        parts = ("aside", failure.reason if failure else "", job or "")
    return "g-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def is_group(text: str) -> bool:
    """Whether this is the id of a group, and not of a job."""
    return _GROUP.fullmatch(text) is not None


def _place(frame: str) -> str:
    found = _FRAME.fullmatch(frame)
    if found is None:
        return frame
    return f"{'/'.join(found['file'].rsplit('/', 2)[-2:])} {found['function']}"


def _death(properties: Properties) -> float | None:
    """When RabbitMQ itself put it there."""
    deaths = properties.headers.get("x-death")
    if isinstance(deaths, list | tuple) and deaths and isinstance(deaths[0], Mapping):
        time = deaths[0].get("time")
        return time.timestamp() if isinstance(time, datetime) else None
    return None


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters with the same error.

    Attributes:
        id: the same for the same failure, today and after a release.
        first: when the oldest was put there, in seconds since the epoch, as far as any says.
        last: the same of the youngest.
        example: one of them, the youngest.
    """

    id: str
    count: int
    first: float | None
    last: float | None
    queues: tuple[str, ...]
    jobs: tuple[str, ...]
    example: Letter


class Grouping:
    """Counts dead letters by group. Memory holds one letter of each."""

    def __init__(self) -> None:
        self._groups: dict[str, _Counted] = {}

    def add(self, letter: Letter) -> None:
        """Count one more."""
        counted = self._groups.get(letter.group)
        if counted is None:
            counted = self._groups[letter.group] = _Counted(letter)
        counted.add(letter)

    def groups(self) -> list[Group]:
        """The groups, the largest first."""
        found = [counted.group() for counted in self._groups.values()]
        return sorted(found, key=lambda group: (-group.count, group.id))


class _Counted:
    def __init__(self, letter: Letter) -> None:
        self._count = 0
        self._example = letter
        self._first = self._last = letter.time
        self._queues: dict[str, None] = {}
        self._jobs: dict[str, None] = {}

    def add(self, letter: Letter) -> None:
        self._count += 1
        self._queues[letter.queue] = None
        if letter.job is not None:
            self._jobs[letter.job] = None
        time = letter.time
        if time is not None:
            self._first = time if self._first is None else min(self._first, time)
            if self._last is None or time >= self._last:
                self._last, self._example = time, letter

    def group(self) -> Group:
        return Group(
            self._example.group, self._count, self._first, self._last,
            tuple(sorted(self._queues)), tuple(sorted(self._jobs)), self._example,
        )  # fmt: skip
