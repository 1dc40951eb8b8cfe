"""The body of a task message: its arguments, and what follows when it has ended.

``[args, kwargs, {"callbacks": ..., "errbacks": ..., "chain": ..., "chord": ...}]``. Changes when
Celery's protocol does, or when amqpjobs can send another kind of follower.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from amqpjobs.contrib.celery.values import read_json
from amqpjobs.errors import DecodeError

MOST_FOLLOWERS: Final = 10_000

IGNORED: Final = frozenset({
    "add_to_parent", "compression", "delivery_mode", "mandatory", "origin", "producer",
    "replaced_task_nesting", "retries", "retry", "retry_policy", "route_name", "serializer",
    "task_type",
})  # fmt: skip
"""Options of a signature that say nothing about what its message is, or about a Python process."""

SENT: Final = frozenset({
    "countdown", "eta", "exchange", "expires", "group_id", "group_index", "headers",
    "ignore_result", "link", "link_error", "parent_id", "priority", "queue", "reply_to", "root_id",
    "routing_key", "shadow", "soft_time_limit", "stamped_headers", "task_id", "time_limit",
})  # fmt: skip
"""Options that its message carries."""

UNSUPPORTED: Final = "let a Celery worker run this task, or leave this out of the workflow"


@dataclass(frozen=True, slots=True)
class Signature:
    """A call of another task, which is sent when this one has ended.

    Attributes:
        task: its name.
        args: its arguments.
        kwargs: those by name.
        immutable: whether it is called without the result of this task.
        options: of the call, as Celery has them.
    """

    task: str
    args: list[Any] = field(default_factory=list)
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    immutable: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str | None:
        """The id that the caller has chosen."""
        given = self.options.get("task_id")
        return given if isinstance(given, str) and given else None


@dataclass(frozen=True, slots=True)
class TaskBody:
    """The body of a task message.

    Attributes:
        args: the arguments by position, as JSON has them.
        kwargs: those by name.
        callbacks: called with the result when it has succeeded (``link``).
        errbacks: called with its id when it has failed for good (``link_error``).
        chain: the tasks that follow, the next one last.
        chain_data: the same as they came.
    """

    args: list[Any]
    kwargs: dict[str, Any]
    callbacks: tuple[Signature, ...] = ()
    errbacks: tuple[Signature, ...] = ()
    chain: tuple[Signature, ...] = ()
    chain_data: list[Any] = field(default_factory=list)


def read_body(data: bytes) -> TaskBody:
    """Read the body of a task message.

    Raises:
        DecodeError: it is no such body, or something has to follow that amqpjobs cannot do right,
            such as a chord. The error shows no argument.
    """
    value = read_json(data)
    if not isinstance(value, list) or not 2 <= len(value) <= 3:
        raise DecodeError(
            "the body is no task of Celery's protocol 2, which is a list: [args, kwargs, embed]"
        )
    args, kwargs, embed = value if len(value) == 3 else (*value, None)
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise DecodeError("the arguments are no list and no object by name")
    if embed is None:
        return TaskBody(args, kwargs)
    if not isinstance(embed, dict):
        raise DecodeError("the third part of a task's body is no object")
    if embed.get("chord"):
        raise DecodeError(f"it is part of a chord, which amqpjobs cannot complete: {UNSUPPORTED}")
    chain = embed.get("chain") or []
    return TaskBody(
        args,
        kwargs,
        _signatures(embed.get("callbacks"), "callbacks"),
        _signatures(embed.get("errbacks"), "errbacks"),
        _signatures(chain, "chain"),
        chain,
    )


def _signatures(value: object, where: str) -> tuple[Signature, ...]:
    if not value:
        return ()
    given = [value] if isinstance(value, dict) else value
    if not isinstance(given, list) or len(given) > MOST_FOLLOWERS:
        raise DecodeError(f"{where!r} of a task's body is no list of signatures")
    return tuple(signature_of(each, where) for each in given)


def signature_of(value: object, where: str) -> Signature:
    """A signature as it travels.

    Raises:
        DecodeError: it is none, or amqpjobs cannot send what it says.
    """
    if not isinstance(value, dict) or not isinstance(value.get("task"), str):
        raise DecodeError(f"{where!r} of a task's body has something that is no signature")
    kind = value.get("subtask_type")
    if kind is not None:
        raise DecodeError(
            f"{where!r} has a {str(kind)[:30]}, and amqpjobs can send single tasks only: "
            f"{UNSUPPORTED}"
        )
    args, kwargs, options = (value.get(name) for name in ("args", "kwargs", "options"))
    if not _is(args, list) or not _is(kwargs, dict) or not _is(options, dict):
        raise DecodeError(f"{where!r} of a task's body has something that is no signature")
    _check_options(options or {}, where)
    return Signature(
        value["task"], args or [], kwargs or {}, value.get("immutable") is True, options or {}
    )


def _is(value: object, kind: type) -> bool:
    return value is None or isinstance(value, kind)


def _check_options(options: Mapping[str, Any], where: str) -> None:
    given = {name for name, value in options.items() if value is not None and value != []}
    stamps = options.get("stamped_headers")
    known = SENT | IGNORED
    if isinstance(stamps, list):
        known = known | {each for each in stamps if isinstance(each, str)}
    if unknown := sorted(given - known):
        raise DecodeError(
            f"{where!r} has the option {unknown[0][:50]!r}, which amqpjobs cannot send: "
            f"{UNSUPPORTED}"
        )
    if options.get("exchange"):
        raise DecodeError(
            f"{where!r} goes to an exchange, and amqpjobs sends to queues: {UNSUPPORTED}"
        )
    for name in ("link", "link_error"):
        _signatures(options.get(name), name)
