"""A call of a task, as the message that Celery's workers take: protocol 2, JSON.

Changes when Celery's protocol does, or when a call can say something else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import PydanticSerializationError, to_json

from amqpjobs.contrib.celery.values import marked
from amqpjobs.errors import InvalidArguments
from amqpjobs.jobs.message.properties import JSON, PERSISTENT, FieldValue, Properties

UTF_8: Final = "utf-8"

EMBED: Final[Mapping[str, None]] = {
    "callbacks": None, "errbacks": None, "chain": None, "chord": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TaskCall:
    """A call of a task.

    Attributes:
        task: its name.
        id: its id.
        args: its arguments.
        kwargs: those by name.
        root_id: of the first task of its workflow; None for itself.
        parent_id: of the task that calls it.
        group: the id of the group that it is in.
        group_index: its place there.
        eta: not to be started before this time, in seconds since the epoch.
        expires: not to be started after this time.
        time_limit: seconds after which a worker kills it.
        soft_time_limit: seconds after which it is told to end.
        priority: AMQP's, of a queue that has priorities.
        ignore_result: whether nobody wants its result.
        reply_to: the queue that its result goes to.
        correlation_id: of its result; None for its id.
        shadow: another name for logs.
        headers: that it has beside Celery's.
        stamps: headers that Celery hands on to what the task calls.
        embed: what follows, as Celery has it.
        origin: who calls.
    """

    task: str
    id: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    eta: float | None = None
    expires: float | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    priority: int | None = None
    ignore_result: bool = False
    reply_to: str | None = None
    correlation_id: str | None = None
    shadow: str | None = None
    headers: Mapping[str, FieldValue] = field(default_factory=dict)
    stamps: Mapping[str, FieldValue] = field(default_factory=dict)
    embed: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "amqpjobs"


def properties_of(call: TaskCall, now: float) -> Properties:
    """The AMQP properties of its message. Beyond what Celery writes they have the name and the id
    as amqpjobs does, for dead letters.

    Args:
        call: the call.
        now: seconds since the epoch.
    """
    expiration = None
    if call.expires is not None:  # as Celery does: RabbitMQ drops what nobody has taken by then
        expiration = str(max(0, round((call.expires - now) * 1000)))
    return Properties(
        content_type=JSON,
        content_encoding=UTF_8,
        headers={**call.headers, **task_headers(call)},
        delivery_mode=PERSISTENT,
        priority=call.priority or 0,
        correlation_id=call.correlation_id or call.id,
        reply_to=call.reply_to or "",
        expiration=expiration,
        message_id=call.id,
        type=call.task,
    )


def task_headers(call: TaskCall) -> dict[str, FieldValue]:
    """Celery's headers. ``argsrepr`` and ``kwargsrepr`` are left out: they are for logs, and would
    show the arguments there."""
    return {
        "lang": "py",
        "task": call.task,
        "id": call.id,
        "shadow": call.shadow,
        "eta": _iso(call.eta),
        "expires": _iso(call.expires),
        "group": call.group,
        "group_index": call.group_index,
        "retries": 0,
        "timelimit": [call.time_limit, call.soft_time_limit],
        "root_id": call.root_id or call.id,
        "parent_id": call.parent_id,
        "origin": call.origin,
        "ignore_result": call.ignore_result,
        "replaced_task_nesting": 0,
        "stamped_headers": list(call.stamps) or None,
        "stamps": dict(call.stamps),
    }


def _iso(when: float | None) -> str | None:
    return None if when is None else datetime.fromtimestamp(when, UTC).isoformat()


def body_of(call: TaskCall) -> bytes:
    """The body of its message.

    Raises:
        InvalidArguments: an argument cannot become JSON.
    """
    try:
        arguments = [marked(call.args), marked(call.kwargs)]
        return to_json([*arguments, {**EMBED, **call.embed}])
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        words = str(error).splitlines()[0]
        raise InvalidArguments(
            f"{call.task}: an argument cannot become JSON: {words}", job=call.task
        ) from None
