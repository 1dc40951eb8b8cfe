"""A queue that jobs wait in, as a value. Changes when a queue gets another option."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import LEVELS
from amqpjobs.jobs.middleware import Processing, checked
from amqpjobs.jobs.queue.arguments import problem_with
from amqpjobs.jobs.queue.limits import LONGEST_HOLD, KillSwitch, starts_per_second

Failed: TypeAlias = Literal["dead", "reject", "requeue-limit"]

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
            ``<name>.<priority>``; the middle one is ``<name>`` itself, so that a sender that
            knows only the name gets the middle priority. With weights 6, 3 and 1, ten starts with
            all of them waiting are six, three and one: the least urgent never starves.
        type: ``quorum`` (replicated, the default) or ``classic``.
        max_priority: for classic queues: native AMQP priorities from 0 to this number.
        delivery_limit: for quorum queues: how often a delivery may come back after a sudden death
            of its worker (up to RabbitMQ 4.2: or be given back) before the broker itself puts it
            into ``<name>.dead``.
        rate: how many jobs one worker process starts at most, over all priorities: ``"100/s"``,
            ``"30/m"``, ``"20/h"``; up to one second's worth at once.
        kill_switch: when consuming pauses because what the jobs depend on is down; None for never.
        middleware: around every run of its jobs, outermost first: inside that of the app, around
            that of the job.
        singleton: one job of this queue runs at a time, in all workers of all machines together,
            by RabbitMQ's single active consumer. The other workers stand by. For quorum queues
            without priorities. It cannot be changed once the queue is declared.
        arguments: further arguments of its declaration, such as ``{"x-max-length": 100_000}``;
            for those that RabbitMQ has and that are no option here.
        foreign: another system declares the queue. Workers consume it as it is, and wait for it
            where it does not exist. ``type`` and ``delivery_limit`` say how it is declared there.
        failed: for foreign queues: what becomes of a job that has failed for good. ``dead`` puts
            it into ``<name>.dead``, which is the app's. ``reject`` leaves it to the dead-lettering
            of the queue's owner; RabbitMQ drops it where there is none. ``requeue-limit`` returns
            each failed job at once, without a retry of its own, until RabbitMQ has counted
            ``delivery_limit`` deliveries, and rejects it then.

    Raises:
        ConfigurationError: a name, weight or combination that cannot work.

    Example:
        >>> receipts = Queue("receipts", priorities={"high": 6, "normal": 3, "low": 1})
        >>> receipts.dead
        'receipts.dead'
        >>> mails = Queue("mails", rate="100/s", kill_switch=KillSwitch(at_least=20))
        >>> reindex = Queue("reindex", singleton=True)
        >>> short = Queue("short", arguments={"x-max-length": 100_000})
        >>> legacy = Queue("legacy.orders", foreign=True, failed="reject")
    """

    name: str
    priorities: Mapping[str, int] = field(default_factory=dict)
    type: Literal["quorum", "classic"] = "quorum"
    max_priority: int | None = None
    delivery_limit: int = 20
    rate: str | None = None
    kill_switch: KillSwitch | None = None
    middleware: "Sequence[Processing]" = field(default=(), repr=False)
    singleton: bool = False
    arguments: Mapping[str, str | int | bool] = field(default_factory=dict)
    foreign: bool = False
    failed: Failed = "dead"

    def __post_init__(self) -> None:
        object.__setattr__(self, "priorities", MappingProxyType(dict(self.priorities)))
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))
        layers = checked(self.middleware, f"middleware of Queue({self.name!r})")
        object.__setattr__(self, "middleware", layers)
        problem = self._problem()
        if problem:
            raise ConfigurationError(f"Queue({self.name!r}): {problem}")

    def __hash__(self) -> int:
        return hash(self.name)

    def _problem(self) -> str | None:
        if not self.name or self.name.startswith("amq."):
            return "a queue needs a name, and names with 'amq.' in front are RabbitMQ's own"
        if max(len(lane.queue.encode()) for lane in lanes_of(self)) > MAX_NAME:
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
        return (
            self._foreign_problem()
            or problem_with(self.arguments, self.type)
            or self._singleton_problem()
            or self._number_problem()
        )

    def _foreign_problem(self) -> str | None:
        if self.failed not in ("dead", "reject", "requeue-limit"):
            return f"failed is 'dead', 'reject' or 'requeue-limit', not {self.failed!r}"
        if not self.foreign:
            return None if self.failed == "dead" else "failed is for foreign=True"
        if self.priorities or self.arguments or self.singleton or self.max_priority is not None:
            return (
                "its owner declares it: leave out priorities, max_priority, arguments and "
                "singleton, or foreign=True"
            )
        if self.failed == "requeue-limit" and self.type != "quorum":
            return "a classic queue does not count deliveries: write failed='reject' or 'dead'"
        return None

    def _singleton_problem(self) -> str | None:
        given: object = self.singleton
        if not isinstance(given, bool):
            return f"singleton is True or False, not {given!r}"
        if self.singleton and self.priorities:
            return (
                "each priority is a queue of its own on the broker, with an active worker of its "
                "own, so that a singleton with priorities would run several jobs at once: leave "
                "priorities=... away"
            )
        if self.singleton and self.type != "quorum":
            return (
                "a singleton is a quorum queue: a classic queue of RabbitMQ 3.10 does not go on "
                "with another worker when the active one stops. Leave type='classic' away"
            )
        return None

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
            slowest = slowest_starts_of(self)
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
    def dead(self) -> str:
        """The name of the queue with its dead letters."""
        return f"{self.name}.dead"

    @property
    def parked(self) -> str:
        """The name of the queue with jobs that no worker knew."""
        return f"{self.name}.parked"


def lanes_of(queue: Queue) -> tuple[Lane, ...]:
    """Its AMQP queues, the most urgent first; one without priorities."""
    if not queue.priorities:
        return (Lane(None, queue.name, 1),)
    middle = len(queue.priorities) // 2
    return tuple(
        Lane(name, queue.name if i == middle else f"{queue.name}.{name}", weight)
        for i, (name, weight) in enumerate(queue.priorities.items())
    )


def keeps_failed(queue: Queue) -> bool:
    """Whether it has queues of its own for failed and for unknown jobs."""
    return queue.failed == "dead"


def put_aside_of(queue: Queue) -> tuple[str, ...]:
    """Its AMQP queues for failed and for unknown jobs."""
    return (queue.dead, queue.parked) if keeps_failed(queue) else ()


def starts_of(queue: Queue) -> float | None:
    """Its rate, in starts a second."""
    return None if queue.rate is None else starts_per_second(queue.rate)


def slowest_starts_of(queue: Queue) -> float | None:
    """Of its rate, what is left for the least urgent priority, in starts a second."""
    starts = starts_of(queue)
    if starts is None or not queue.priorities:
        return starts
    return starts * min(queue.priorities.values()) / sum(queue.priorities.values())


def route_of(queue: Queue, priority: str | int | None) -> tuple[str, int | None]:
    """Where a message of this priority goes.

    Returns:
        The AMQP queue's name, and the AMQP priority property or None.

    Raises:
        ConfigurationError: this queue has no such priority.
    """
    if priority is None:
        return queue.name, None
    if isinstance(priority, str):
        for lane in lanes_of(queue):
            if lane.priority == priority:
                return lane.queue, None
    elif queue.max_priority is not None and 0 <= priority <= queue.max_priority:
        return queue.name, priority
    raise ConfigurationError(
        f"queue {queue.name!r} has no priority {priority!r}; {_known_priorities(queue)}"
    )


def _known_priorities(queue: Queue) -> str:
    if queue.max_priority is not None:
        return f"it takes numbers from 0 to {queue.max_priority}"
    if queue.priorities:
        return f"it has {', '.join(repr(p) for p in queue.priorities)}"
    return "give it some: Queue(..., priorities={'high': 6, 'normal': 3, 'low': 1})"
