"""What operators have set for queues: pauses and rates, as values and as the marker's JSON.

Changes when an operator can set something else for a queue.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.queue.limits import starts_per_second
from amqpjobs.jobs.queue.queue import Queue

MOST = 10_000
"""Queues of one marker."""

LONGEST_BY = 200
"""Characters that are kept of who has set it."""


@dataclass(frozen=True, slots=True)
class Hold:
    """What an operator has set for one queue, for all workers of it.

    Attributes:
        queue: its name.
        paused: whether its jobs do not start.
        until: when the pause ends by itself, in seconds since the epoch; None for `Fleet.resume`.
        rate: as `Queue.rate`, in its place; None for the queue's own.
        by: who has set it, such as ``ada@bastion``; not checked.
        since: when, in seconds since the epoch.
    """

    queue: str
    paused: bool = False
    until: float | None = None
    rate: str | None = None
    by: str = ""
    since: float = 0.0

    def is_paused_at(self, now: float) -> bool:
        """Whether the pause lasts at this time, in seconds since the epoch."""
        return self.paused and (self.until is None or self.until > now)

    def at(self, now: float) -> "Hold | None":
        """What is left of it at this time; None for nothing."""
        if self.is_paused_at(now):
            return self
        return replace(self, paused=False, until=None) if self.rate is not None else None


def with_rate(queue: Queue, rate: str | None) -> Queue:
    """The queue with an operator's rate; as it is without one.

    Raises:
        ConfigurationError: that rate cannot be used for this queue.
    """
    return queue if rate is None else replace(queue, rate=rate)


def encode_holds(holds: Iterable[Hold]) -> bytes:
    """The body of the marker."""
    told: dict[str, Any] = {}
    for hold in holds:
        values = asdict(hold)
        told[values.pop("queue")] = values
    return json.dumps(told, ensure_ascii=False).encode()


def read_holds(body: bytes) -> dict[str, Hold]:
    """The holds of a marker, by queue. Anybody who may publish can have written it.

    Raises:
        DecodeError: it is no marker; says what is wrong with it.
    """
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the marker of paused queues is not JSON: {error}") from None
    if not isinstance(told, Mapping) or len(told) > MOST:
        raise DecodeError(f"the marker of paused queues is no object of at most {MOST} queues")
    return {queue: _hold(queue, values) for queue, values in told.items()}


def _hold(queue: str, values: object) -> Hold:
    if not isinstance(values, Mapping):
        raise DecodeError(f"the marker says nothing readable of queue {queue!r}")
    paused, until, rate = values.get("paused"), values.get("until"), values.get("rate")
    by, since = values.get("by", ""), values.get("since", 0.0)
    right = (
        isinstance(paused, bool)
        and (until is None or _is_number(until))
        and (rate is None or isinstance(rate, str))
        and isinstance(by, str)
        and _is_number(since)
    )
    if not right:
        raise DecodeError(f"the marker says nothing readable of queue {queue!r}")
    if rate is not None:
        try:
            starts_per_second(rate)
        except ConfigurationError as error:
            raise DecodeError(f"the marker of queue {queue!r}: {error}") from None
    return Hold(queue, bool(paused), until, rate, by[:LONGEST_BY], since)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
