"""Pipelines as values: a message whose body is the plan of the calls.

The plan is JSON: ``{"steps": [...]}``. A step is the table of a call, in the format of callbacks.
If the step follows another one, ``first`` names the parameter that takes the result; it is absent
if the job has one parameter. A step may also be ``{"group": [...]}`` with calls and plans. Changes
when a plan has another part.
"""

import json
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar, overload

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.hints import install
from amqpjobs.jobs.message.arguments import member
from amqpjobs.jobs.message.callbacks import message_from, table_of
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.message import (
    NO_OPTIONS,
    Follower,
    Message,
    Pipeline,
    has_own_id,
)

P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
S = TypeVar("S")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

PIPELINE: Final = "amqpjobs.pipeline"
"""The job that runs pipelines. The shape of the result follows in its name and is used to validate
the result: ``/store`` is the result of the job ``store``, ``/(a, b)`` a tuple, ``/[a]`` a list."""

UNKNOWN: Final = "?"
"""The shape of a result that is not validated: plain JSON."""

LONGEST_JOB: Final = 255
"""Bytes of the name of a job: AMQP's own limit."""

MOST_TYPED: Final = 5
"""The most messages of a group whose results are a tuple, each with its own type."""

LARGEST_BODY: Final = 2**31
"""Bytes of the body of a part. A body that is too large to send is refused when it is sent."""


class Group(Pipeline[R_co], Generic[R_co, T]):
    """Jobs side by side: `group` returns it. Its result has the result of each job, in order."""

    __slots__ = ()

    @overload
    def then(
        self, job: Follower[Concatenate[R_co, P], S], /, *rest: P.args, **named: P.kwargs
    ) -> Pipeline[S]: ...
    @overload
    def then(
        self, job: Follower[Concatenate[list[T], P], S], /, *rest: P.args, **named: P.kwargs
    ) -> Pipeline[S]: ...
    def then(self, job: Any, /, *rest: Any, **named: Any) -> Pipeline[Any]:
        """Run a job when all jobs of the group are done. Its first argument is the list of their
        results; the parameter may be a list or a tuple. See `Message.then`.

        Example:
            >>> reports = group(build_report.message(month) for month in (10, 11))
            >>> await app.request(reports.then(merge))
            '2 reports'
        """
        return super().then(job, *rest, **named)


@overload
def group(a: Message[A], /) -> Group[tuple[A], A]: ...
@overload
def group(a: Message[A], b: Message[B], /) -> Group[tuple[A, B], A | B]: ...
@overload
def group(a: Message[A], b: Message[B], c: Message[C], /) -> Group[tuple[A, B, C], A | B | C]: ...
@overload
def group(
    a: Message[A], b: Message[B], c: Message[C], d: Message[D], /
) -> Group[tuple[A, B, C, D], A | B | C | D]: ...
@overload
def group(
    a: Message[A], b: Message[B], c: Message[C], d: Message[D], e: Message[E], /
) -> Group[tuple[A, B, C, D, E], A | B | C | D | E]: ...
@overload
def group(*messages: Message[T]) -> Group[list[T], T]: ...
@overload
def group(messages: Iterable[Message[T]], /) -> Group[list[T], T]: ...
def group(*messages: Any) -> Group[Any, Any]:
    """Call jobs side by side, each on its own queue, as one message.

    Args:
        messages: ``job.message(x)``, or pipelines. Up to five messages give a tuple of results,
            each with its type. More messages, or an iterable of messages, give a list.

    Raises:
        ConfigurationError: the group is empty; a message has its own ``id=``; or the extra ``sql``
            is missing, since a pipeline is a durable job.

    Example:
        >>> pipeline = group(build_report.message(10), build_report.message(11)).then(merge)
        >>> await app.request(pipeline)
        '2 reports'
    """
    given = messages if not messages or isinstance(messages[0], Message) else messages[0]
    parts = list(given)
    if not parts:
        raise ConfigurationError("a group of no jobs has no queue to run on: do not enqueue it")
    for part in parts:
        if not isinstance(part, Message):
            raise ConfigurationError(f"a group has messages, such as job.message(7), not {part!r}")
    steps = [{"group": [_part(part) for part in parts]}]
    shapes = [_shape_of(part) for part in parts]
    if given is messages and len(parts) <= MOST_TYPED:
        shape = f"({', '.join(shapes)})"
    else:
        shape = f"[{shapes[0] if len(set(shapes)) == 1 else UNKNOWN}]"
    made: Group[Any, Any] = _made(Group, steps, shape, parts[0])
    return made


def following(message: Message[Any], follower: Message[S], first: str | None) -> Pipeline[S]:
    """Join a message and the next job.

    Args:
        follower: the next job; its body has the other arguments.
        first: the parameter that takes the result; None if it is the only one.
    """
    before = _plan(message)["steps"] if isinstance(message, Pipeline) else [_part(message)]
    step = _part(follower)
    if first is not None:
        step["first"] = first
    steps = [*before, {**step, "follows": True}]
    made: Pipeline[S] = _made(Pipeline, steps, _shape_of(follower), message)
    return made


def call_in(step: dict[str, Any], result: bytes | None) -> Message[Any]:
    """The message of a step of a plan.

    Args:
        result: of the step before it, as JSON; None for the first step.

    Raises:
        ValueError: the step is malformed.
    """
    if step.get("follows"):
        if result is None or not isinstance(step.get("body"), str):
            raise ValueError("there is no step before it, or it has no body")
        first, body = step.get("first"), result
        if first is not None:
            body = member(first, result, step["body"].encode())
        step = {**step, "body": body.decode()}
    return message_from(step, LARGEST_BODY)


@cache
def has_store() -> bool:
    """Whether this process can have a store. The result is cached, since the look-up is slow."""
    return find_spec("sqlalchemy") is not None


def _made(kind: Any, steps: list[Any], shape: str, like: Message[Any]) -> Any:
    """Make a pipeline that runs on the queue of its first message."""
    if not has_store():
        raise ConfigurationError(
            "a pipeline is a durable job and needs the store (AMQPJOBS_STORE_URL): "
            f"{install('amqpjobs[sql]')}"
        )
    job = f"{PIPELINE}/{shape}"
    if len(job.encode()) > LONGEST_JOB:
        job = PIPELINE
    body = json.dumps({"steps": steps}, separators=(",", ":"), ensure_ascii=False).encode()
    options = like.options if isinstance(like, Pipeline) else NO_OPTIONS
    priority, tracked = like.native_priority, like.tracked
    return has_own_id(kind(new_job_id(), job, like.queue, body, options, priority, tracked))


def _part(message: Message[Any]) -> dict[str, Any]:
    if isinstance(message, Pipeline):
        return _plan(message)
    if message.options.id is not None:
        raise ConfigurationError(
            f"{message.job}: the id of a job in a pipeline is derived from that of the pipeline: "
            "leave id= out"
        )
    return dict(table_of(message))


def _plan(pipeline: Pipeline[Any]) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads(pipeline.body)
    return plan


def _shape_of(message: Message[Any]) -> str:
    """The shape of the result of a message, in the name of a pipeline."""
    if isinstance(message, Pipeline):
        return message.job.removeprefix(PIPELINE).removeprefix("/") or UNKNOWN
    return UNKNOWN if set("()[],?") & set(message.job) else message.job
