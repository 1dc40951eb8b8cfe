"""The arguments of a queue that an app may set itself: which RabbitMQ knows, and for which type.

Sources: https://www.rabbitmq.com/docs/queues#optional-arguments,
https://www.rabbitmq.com/docs/quorum-queues, and rabbit_quorum_queue.erl of 3.10 to 4.3. RabbitMQ
itself ignores an argument that it does not know. So 3.10 takes those of later versions, which have
an effect when the broker is upgraded; they are passed on, since an argument cannot be added to a
queue that is there. Changes when RabbitMQ has another argument.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from amqpjobs.jobs.hints import did_you_mean

LARGEST: Final = 2**63 - 1

LONGEST_TTL: Final = 315_360_000_000
"""Milliseconds: ten years. RabbitMQ refuses more (tried on 3.10.8 and 4.3.6)."""


class Known(NamedTuple):
    """An argument that RabbitMQ knows.

    Attributes:
        types: of queues that have it.
        problem: what is wrong with a value; None for nothing.
    """

    types: tuple[str, ...]
    problem: Callable[[object], str | None]


def _whole(least: int, most: int = LARGEST) -> Callable[[object], str | None]:
    def problem(value: object) -> str | None:
        fits = type(value) is int and least <= value <= most
        up_to = "" if most == LARGEST else f" to {most}"
        return None if fits else f"is a whole number from {least}{up_to}"

    return problem


def _one_of(*values: str) -> Callable[[object], str | None]:
    def problem(value: object) -> str | None:
        return None if value in values else f"is one of {', '.join(map(repr, values))}"

    return problem


_BOTH, _QUORUM, _CLASSIC = ("quorum", "classic"), ("quorum",), ("classic",)

KNOWN: Final[Mapping[str, Known]] = {
    "x-max-length": Known(_BOTH, _whole(1)),
    "x-max-length-bytes": Known(_BOTH, _whole(1)),
    "x-overflow": Known(_BOTH, _one_of("reject-publish", "drop-head")),
    "x-message-ttl": Known(_BOTH, _whole(0, LONGEST_TTL)),
    "x-queue-leader-locator": Known(_BOTH, _one_of("client-local", "balanced")),
    "x-quorum-initial-group-size": Known(_QUORUM, _whole(1)),
    "x-quorum-target-group-size": Known(_QUORUM, _whole(1)),
    "x-consumer-timeout": Known(_QUORUM, _whole(1)),
    "x-delayed-retry-type": Known(_QUORUM, _one_of("disabled", "all", "failed", "returned")),
    "x-delayed-retry-min": Known(_QUORUM, _whole(0)),
    "x-delayed-retry-max": Known(_QUORUM, _whole(0)),
    "x-queue-version": Known(_CLASSIC, lambda v: None if v in (1, 2) else "is 1 or 2"),
    "x-queue-mode": Known(_CLASSIC, _one_of("default", "lazy")),
}
"""What an app may set."""

OURS: Final[Mapping[str, str]] = {
    "x-queue-type": "write type=...",
    "x-delivery-limit": "write delivery_limit=...",
    "x-max-priority": "write max_priority=...",
    "x-single-active-consumer": "write singleton=True",
    "x-dead-letter-exchange": "failed jobs go to <queue>.dead",
    "x-dead-letter-routing-key": "failed jobs go to <queue>.dead",
    "x-dead-letter-strategy": "it follows from x-overflow",
    "x-expires": "RabbitMQ would delete the queue with the jobs in it",
}
"""What an app may not, and what to write instead."""


def problem_with(arguments: Mapping[str, object], type_: str) -> str | None:
    """What is wrong with the arguments of a queue; None for nothing.

    Args:
        arguments: as they were given.
        type_: of the queue.
    """
    for name, value in arguments.items():
        if name in OURS:
            return f"arguments cannot have {name!r}: {OURS[name]}"
        known = KNOWN.get(name)
        if known is None:
            hint = did_you_mean(str(name), KNOWN)
            return f"RabbitMQ knows no argument {name!r} of a queue{hint}"
        if type_ not in known.types:
            return f"the argument {name!r} is for queues of type {known.types[0]!r}"
        if (problem := known.problem(value)) is not None:
            return f"the argument {name!r} {problem}, not {value!r}"
    return None
