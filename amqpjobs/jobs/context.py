"""What a running job may know about itself, and whom it may tell. Changes when that does."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping
from contextvars import Context as Variables
from contextvars import ContextVar
from typing import Any, Protocol

from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.message.events import Progress, is_fraction, readable
from amqpjobs.jobs.message.headers import progress_of
from amqpjobs.jobs.message.properties import FieldValue, Properties
from amqpjobs.jobs.message.trace_context import SpanIds, carried, trace_parent
from amqpjobs.jobs.verdicts import RateLimited, Snooze

log = logging.getLogger("amqpjobs.job")


class Stopping(Protocol):
    """An event that is set when the worker is told to stop."""

    def is_set(self) -> bool:
        """Whether the worker was told to stop; safe from any thread."""
        ...

    async def wait(self) -> object:
        """Return when the worker is told to stop. Only from the event loop."""
        ...


class Context:
    """The running job: what it is, how long it has, and whether it should stop.

    A handler gets it by taking it as its first parameter (after ``self``): in a worker, and in a
    plain call too.

    Attributes:
        job: the job's name.
        job_id: the same over all runs of the job.
        queue: the queue it came from; empty in a plain call.
        attempt: which run this is, from 1. A run that was interrupted does not count.
        deadline: seconds since the epoch after which nobody wants the result, or None.
        epoch: how often the job was replayed from the dead letters.
        stopping: set when the worker is told to stop. A long job looks at it, or waits for it, and
            returns early; what does not return in time is cancelled and given back to the queue.
        told: what `progress` was told last in this run, or None.
        tell: who passes it on; None for nobody but the log.
        span: names the span of this run; None where nothing is traced.
        carrier: the trace headers that the worker gave the process of this run; None in a worker.
    """

    __slots__ = (
        "_properties", "attempt", "carrier", "deadline", "epoch", "job", "job_id", "queue", "span",
        "stopping", "tell", "told",
    )  # fmt: skip

    def __init__(
        self,
        job: str,
        job_id: str,
        queue: str,
        attempt: int,
        deadline: float | None,
        stopping: Stopping,
        properties: Callable[[], Properties],
        epoch: int = 0,
        tell: "Tell | None" = None,
    ) -> None:
        self.job = job
        self.job_id = job_id
        self.queue = queue
        self.attempt = attempt
        self.deadline = deadline
        self.stopping = stopping
        self._properties = properties
        self.epoch = epoch
        self.tell = tell
        self.told: Progress | None = None
        self.span: SpanIds | None = None
        self.carrier: Mapping[str, FieldValue] | None = None

    @property
    def message(self) -> Properties:
        """The AMQP properties of the message. Anyone who may publish wrote them: trust nothing.

        Raises:
            DecodeError: the headers are malformed.
        """
        return self._properties()

    @property
    def trace_parent(self) -> str | None:
        """The W3C ``traceparent`` that came with the message, or None."""
        try:
            return trace_parent(self._properties().headers)
        except DecodeError:
            # A stranger's broken headers cost the trace, not the job or its log lines.
            return None

    @property
    def trace_id(self) -> str | None:
        """The W3C trace id of this run's span, else the one that came with the message, or None."""
        if self.span is not None:
            return f"{self.span.trace_id:032x}"
        parent = self.trace_parent
        return parent.split("-")[1] if parent else None

    def passed_on(self) -> dict[str, FieldValue]:
        """The trace headers of what this job sends, where OpenTelemetry does not say them."""
        if self.carrier is not None:
            return dict(self.carrier)
        try:
            return carried(self._properties().headers)
        except DecodeError:
            return {}

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger whose lines carry the job, its id, queue, attempt and trace."""
        return JobLogger(log, self.log_keys())

    def log_keys(self) -> dict[str, object]:
        """What every log line about this job carries."""
        keys: dict[str, object] = {
            "job": self.job, "job_id": self.job_id, "queue": self.queue, "attempt": self.attempt,
        }  # fmt: skip
        trace_id = self.trace_id
        if trace_id:
            keys["trace_id"] = trace_id
        if self.span is not None:
            keys["span_id"] = f"{self.span.span_id:016x}"
            keys["trace_flags"] = f"{self.span.trace_flags:02x}"
        return keys

    @property
    def last_progress(self) -> Progress | None:
        """How far the job was in its last run: what a handler needs to go on from there. None in a
        first run, and where the last one told nothing or died without a word."""
        try:
            return progress_of(self._properties().headers)
        except DecodeError:
            return None

    def progress(self, fraction: float, message: str = "") -> Awaitable[None]:
        """Tell how far the job is: in its status, and in the log. At most five times a second; the
        last word is never lost, and is there for the next run as `last_progress`.

        It has told when it returns, so that a plain ``def`` in a thread or a process calls it
        without ``await``: ``ctx.progress(0.4)``.

        Args:
            fraction: from 0 to 1.
            message: a few words for people, up to 500 characters.

        Raises:
            ConfigurationError: a fraction outside of 0 to 1.
        """
        if not is_fraction(fraction):
            raise ConfigurationError(f"progress is a fraction from 0 to 1, not {fraction!r}")
        self.told = Progress(float(fraction), readable(str(message)))
        if self.tell is not None:
            self.tell(self)
        else:
            self.log_progress()
        return TOLD

    def log_progress(self) -> None:
        """The log line of what was told last."""
        if self.told is not None:
            fraction, message = self.told
            self.log.info("progress", extra={"progress": round(fraction, 4), "detail": message})

    def rate_limited(self, seconds: float) -> Snooze:
        """What to raise when somebody has had enough of us, as by HTTP 429.

        ``raise ctx.rate_limited(30)`` runs this job again in 30 seconds, no attempt used, and until
        then this worker process starts no other job of its queue. Those that run go on. In a plain
        call it is an exception like any other.

        Args:
            seconds: from 0, such as the header ``Retry-After`` says.

        Raises:
            ConfigurationError: not a number of seconds.
        """
        return RateLimited(seconds)

    def __repr__(self) -> str:
        return f"<Context {self.job} {self.job_id} attempt {self.attempt}>"


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the job's keys, and keeps those of the call."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """See `logging.LoggerAdapter`."""
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


Tell = Callable[[Context], None]
"""Passes on how far a job is; called in whatever thread the job runs in."""


class _Told:
    """What `Context.progress` returns: there is nothing to wait for any more."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


TOLD = _Told()


current_context: ContextVar[Context | None] = ContextVar("amqpjobs_context", default=None)
"""The job that runs here, if one does; log lines and what the job publishes look at it."""


def context_of_nobody() -> Variables:
    """The context variables for what outlives the job or the web request that starts it, such as a
    connection: none, as in a new thread. It must not keep their values, nor log with them."""
    return Variables()


def plain_context(job: str, job_id: str) -> Context:
    """The context of a plain call, with no worker around it: nothing will ever stop it."""
    return Context(job, job_id, "", 1, None, asyncio.Event(), Properties)
