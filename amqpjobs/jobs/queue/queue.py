"""A queue that jobs wait in, as a value. Changes when a queue gets another option."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.queue.limits import LONGEST_HOLD, KillSwitch, starts_per_second

LEVELS = 28
"""Of the delays: see `amqpjobs.jobs.queue.delays`."""

MAX_NAME = 255 - 2 * LEVELS
"""Bytes. AMQP's routing keys end at 255, and a delay has its bits in front of the name."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One AMQP queue of a `Queue`: the jobs of one priority wait in it.

    Attributes:
        priority: its name, or None for the only lane of a queue without priorities.
        queue: the AMQP queue's name.
        weight: how many starts it gets in each round when all lanes have jobs waiting.
    """

    priority: str | None
    queue: str
    weight: int


@dataclass(frozen=True)
class Queue:
    """A queue that jobs wait in.

    Args:
        name: its name on the broker.
        priorities: names and weights, from the most to the least urgent. Each is an AMQP queue
            ``<name>.<priority>``; the middle one is ``<name>`` itself, so that a stranger who knows
            only the name gets the middle priority. With weights 6, 3 and 1, ten starts with all of
            them waiting are six, three and one: the least urgent never starves.
        type: ``quorum`` (replicated, the default) or ``classic``.
        max_priority: for classic queues: native AMQP priorities from 0 to this number.
        delivery_limit: for quorum queues: how often a delivery may come back after a sudden death
            of its worker (up to RabbitMQ 4.2: or be given back) before the broker itself puts it
            into ``<name>.dead``.
        rate: how many jobs one worker process starts at most, over all priorities: ``"100/s"``,
            ``"30/m"``, ``"20/h"``; up to one second's worth at once.
        kill_switch: when consuming pauses because what the jobs depend on is down; None for never.

    Raises:
        ConfigurationError: a name, weight or combination that cannot work.
    """

    name: str
    priorities: Mapping[str, int] = field(default_factory=dict)
    type: Literal["quorum", "classic"] = "quorum"
    max_priority: int | None = None
    delivery_limit: int = 20
    rate: str | None = None
    kill_switch: KillSwitch | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "priorities", MappingProxyType(dict(self.priorities)))
        problem = self._problem()
        if problem:
            raise ConfigurationError(f"Queue({self.name!r}): {problem}")

    def __hash__(self) -> int:
        return hash(self.name)

    def _problem(self) -> str | None:
        if not self.name or self.name.startswith("amq."):
            return "a queue needs a name, and names with 'amq.' in front are RabbitMQ's own"
        if max(len(lane.queue.encode()) for lane in self.lanes) > MAX_NAME:
            return f"the name, with its longest priority, is over {MAX_NAME} bytes"
        if {"*", "#"} & set(self.name.split(".")):
            return "a part of the name that is only '*' or '#' is a wildcard in a routing key"
        if not all(isinstance(w, int) and w >= 1 for w in self.priorities.values()):
            return f"weights are whole numbers from 1, not {dict(self.priorities)!r}"
        if {"dead", "parked", ""} & set(self.priorities):
            return (
                "'dead' and 'parked' name the queues for failed jobs; call the priority otherwise"
            )
        if self.type not in ("quorum", "classic"):
            return f"type is 'quorum' or 'classic', not {self.type!r}"
        return self._number_problem()

    def _number_problem(self) -> str | None:
        if self.max_priority is not None:
            if self.type != "classic" or self.priorities:
                return "max_priority is for type='classic' without priorities; use priorities={...}"
            if not 1 <= self.max_priority <= 255:
                return f"max_priority is a number from 1 to 255, not {self.max_priority!r}"
        if self.delivery_limit < 1:
            return f"delivery_limit is a number from 1, not {self.delivery_limit!r}"
        return self._limit_problem()

    def _limit_problem(self) -> str | None:
        try:
            slowest = self.slowest_starts
        except ConfigurationError as error:
            return str(error)
        if slowest is not None and 1 / slowest > LONGEST_HOLD:
            of = " of the least urgent priority" if self.priorities else ""
            return (
                f"rate={self.rate!r} starts a job{of} every {1 / slowest:.0f} s. It would be held "
                f"unacked for so long, and RabbitMQ takes back what is not acked after 30 minutes: "
                f"one every {LONGEST_HOLD:.0f} s is the slowest. For less, publish with a delay"
            )
        return None

    @property
    def starts(self) -> float | None:
        """Its rate, in starts a second."""
        return None if self.rate is None else starts_per_second(self.rate)

    @property
    def slowest_starts(self) -> float | None:
        """Of its rate, what is left for the least urgent priority, in starts a second."""
        starts = self.starts
        if starts is None or not self.priorities:
            return starts
        return starts * min(self.priorities.values()) / sum(self.priorities.values())

    @property
    def dead(self) -> str:
        """The name of the queue with its dead letters."""
        return f"{self.name}.dead"

    @property
    def parked(self) -> str:
        """The name of the queue with jobs that no worker knew."""
        return f"{self.name}.parked"

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Its AMQP queues, the most urgent first; one without priorities."""
        if not self.priorities:
            return (Lane(None, self.name, 1),)
        middle = len(self.priorities) // 2
        return tuple(
            Lane(name, self.name if i == middle else f"{self.name}.{name}", weight)
            for i, (name, weight) in enumerate(self.priorities.items())
        )

    def route(self, priority: str | int | None) -> tuple[str, int | None]:
        """Where a message of this priority goes.

        Returns:
            The AMQP queue's name, and the AMQP priority property or None.

        Raises:
            ConfigurationError: this queue has no such priority.
        """
        if priority is None:
            return self.name, None
        if isinstance(priority, str):
            for lane in self.lanes:
                if lane.priority == priority:
                    return lane.queue, None
        elif self.max_priority is not None and 0 <= priority <= self.max_priority:
            return self.name, priority
        raise ConfigurationError(
            f"queue {self.name!r} has no priority {priority!r}; {self._known_priorities()}"
        )

    def _known_priorities(self) -> str:
        if self.max_priority is not None:
            return f"it takes numbers from 0 to {self.max_priority}"
        if self.priorities:
            return f"it has {', '.join(repr(p) for p in self.priorities)}"
        return "give it some: Queue(..., priorities={'high': 6, 'normal': 3, 'low': 1})"
