"""The messages between a worker and its job processes.

A frame is two lengths, a JSON header, and a body which is JSON already: the message's, or the
result. Never pickle: a job gets here what it would get over the wire, and nothing else. Changes
when either side has something new to say.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from amqpjobs.jobs.context import Stopping
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.carried import Carried, retry_table
from amqpjobs.jobs.message.events import is_fraction
from amqpjobs.jobs.message.headers import (
    origin_header,
    origin_of,
    progress_header,
    progress_of,
    tick_header,
    tick_of,
)
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.message.trace_context import span_of, traceparent_of
from amqpjobs.jobs.retry import Retry
from amqpjobs.jobs.run_context import RunContext, Tell
from amqpjobs.jobs.verdicts import RateLimited, Reject, RetryAfter, Snooze, Verdict
from amqpjobs.telemetry.traces.propagation import outgoing_trace

LENGTHS = struct.Struct("!II")
"""Bytes of the header, bytes of the body."""

STOP = LENGTHS.pack(0, 0)
"""A frame without a header: the worker was told to stop. Only ever sent while a job runs."""

LARGEST_RESULT = 16 * 2**20
"""Bytes of JSON that a handler may return."""

LARGEST_HEADER = 2**20

Header: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A job to run; its arguments are the body of the frame.

    Attributes:
        context: what the `Context` is made of.
        memory_limit: bytes of address space, or None.
        trace: the headers that what it sends goes on with.
        app: the name of the app.
        included_by: the module that includes the router of the job in the app; None without one.
    """

    module: str
    qualname: str
    context: Header
    memory_limit: int | None
    trace: Header
    app: str | None = None
    included_by: str | None = None


@dataclass(frozen=True, slots=True)
class Returned:
    """The handler returned this JSON, which is the body of the frame; empty for what cannot be
    passed on, and need not be."""

    result: bytes


@dataclass(frozen=True, slots=True)
class Raised:
    """The handler raised; see `amqpjobs.errors.RemoteError`.

    Attributes:
        last: whether the process should run nothing any more.
    """

    exception: str
    kinds: tuple[str, ...]
    message: str
    frames: tuple[str, ...]
    traceback: str
    last: bool


@dataclass(frozen=True, slots=True)
class Ruled:
    """The handler raised or returned a verdict: see `amqpjobs.jobs.verdicts`.

    Attributes:
        verdict: the name of its class.
        argument: what it is made of.
    """

    verdict: str
    argument: str | float

    def read(self) -> Verdict:
        """The verdict itself.

        Raises:
            ValueError: there is none of this name.
        """
        match self.verdict, self.argument:
            case "Reject", str(reason):
                return Reject(reason)
            case "RetryAfter", float(seconds):
                return RetryAfter(seconds)
            case "Snooze", float(seconds):
                return Snooze(seconds)
            case "RateLimited", float(seconds):
                return RateLimited(seconds)
        raise ValueError(f"not a verdict: {self.verdict!r}")


@dataclass(frozen=True, slots=True)
class Unfit:
    """The call or its result cannot work.

    Attributes:
        error: the name of the error in `amqpjobs.errors`.
    """

    error: str
    message: str


@dataclass(frozen=True, slots=True)
class Worn:
    """Not run: earlier jobs left too little of this job's memory limit. A new process can."""


@dataclass(frozen=True, slots=True)
class Told:
    """No answer yet: the job tells how far it is."""

    fraction: float
    message: str


Answer: TypeAlias = Returned | Raised | Ruled | Unfit | Worn

_ANSWERS: dict[str, type[Answer | Told]] = {
    k.__name__: k for k in (Raised, Ruled, Told, Unfit, Worn)
}


def call_of(definition: Definition, context: RunContext) -> Call:
    """How a process finds the handler, and what it is told.

    Raises:
        ConfigurationError: no other process can import the handler.
    """
    function = definition.function
    if function.__module__ == "__main__" or "<locals>" in function.__qualname__:
        where = "the program's main module" if function.__module__ == "__main__" else "a function"
        raise definition.fail(
            f"another process, such as that of a cpu=True job, cannot import it from {where}; put "
            "the job in an importable module, at its top level"
        )
    if definition.included_by == "__main__":
        raise definition.fail(
            "another process, such as that of a cpu=True job, cannot import the app from the "
            "program's main module: include the router in an importable module"
        )
    return Call(
        function.__module__,
        function.__qualname__,
        _told(context),
        definition.memory_limit,
        outgoing_trace(context),
        definition.registered_in,
        definition.included_by,
    )


def _told(context: RunContext) -> Header:
    properties = context.message
    known = {name: getattr(properties, name) for name in Properties._fields}
    # Of the headers, those that JSON can hold: byte strings, times and nested tables stay behind.
    known["headers"] = {
        name: value
        for name, value in properties.headers.items()
        if isinstance(value, str | int | float | None)
    }
    progress = progress_of(properties.headers)
    if progress is not None:
        known["headers"] |= progress_header(progress)
    tick = tick_of(properties.headers)
    if tick is not None:
        known["headers"] |= tick_header(tick)
    origin = origin_of(properties.headers)
    if origin is not None:
        known["headers"] |= origin_header(origin)
    return {
        "job": context.job, "job_id": context.job_id, "queue": context.queue,
        "attempt": context.attempt, "deadline": context.deadline, "epoch": context.epoch,
        "redelivered": context.redelivered,
        "properties": known,
        "carried": _carried_by(context),
        "tokens": dict(getattr(context, "tokens", {})),
        "span": None if context.span is None else traceparent_of(context.span),
    }  # fmt: skip


def _carried_by(context: RunContext) -> tuple[Header | None, float | None, tuple[str, ...]] | None:
    if context.carried is None:
        return None
    retry, timeout, tags = context.carried
    return None if retry is None else retry_table(retry), timeout, tags


def context_of(call: Call, stopping: Stopping, tell: Tell | None = None) -> RunContext:
    """The context of a call, in the process that runs it."""
    told = dict(call.context)
    properties = Properties(**told.pop("properties"))
    span, carried = span_of(told.pop("span")), told.pop("carried")
    redelivered, tokens = told.pop("redelivered"), told.pop("tokens")
    context = RunContext(stopping=stopping, properties=lambda: properties, tell=tell, **told)
    context.span, context.carrier, context.redelivered = span, call.trace, redelivered
    context.tokens = tokens
    if carried is not None:
        retry, timeout, tags = carried
        policy = None if retry is None else Retry(**retry)
        context.carried = Carried(policy, timeout, tuple(tags))
    return context


def frame(header: Header, body: bytes = b"") -> bytes:
    """One frame, ready to be sent."""
    encoded = json.dumps(header).encode()
    return b"".join((LENGTHS.pack(len(encoded), len(body)), encoded, body))


def frame_of_call(call: Call, body: bytes) -> bytes:
    """The frame that asks for a job."""
    return frame(asdict(call), body)


def frame_of_answer(answer: Answer) -> bytes:
    """The frame that ends a job."""
    if isinstance(answer, Returned):
        return frame({"answer": "Returned"}, answer.result)
    return frame({"answer": type(answer).__name__, **asdict(answer)})


def frame_of_told(told: Told) -> bytes:
    """The frame that says how far a job is."""
    return frame({"answer": "Told", **asdict(told)})


def read_answer(header: bytes, body: bytes) -> Answer | Told:
    """What a frame says: the answer, or how far it is.

    Raises:
        ValueError: it is none. A handler can reach the file descriptor, after all.
    """
    try:
        fields = json.loads(header)
        kind = fields.pop("answer")
        if kind == "Returned":
            return Returned(body)
        for name in ("frames", "kinds"):
            if name in fields:
                fields[name] = tuple(fields[name])
        answer = _ANSWERS[kind](**fields)
        if isinstance(answer, Ruled):
            answer.read()
        if isinstance(answer, Told) and not is_fraction(answer.fraction):
            raise ValueError("not a fraction")
        return answer
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("not an answer") from error
