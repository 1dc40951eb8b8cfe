"""The context of a run in a worker, or of a plain call. Changes when a run knows something else."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping
from contextvars import Context as Variables
from contextvars import ContextVar
from typing import Any

from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.context import Context, Stopping
from amqpjobs.jobs.durable.running import PLAINLY, Running
from amqpjobs.jobs.hints import did_you_mean
from amqpjobs.jobs.message.carried import Carried
from amqpjobs.jobs.message.copies import Remembered
from amqpjobs.jobs.message.events import Progress, is_fraction, readable
from amqpjobs.jobs.message.given import Given
from amqpjobs.jobs.message.properties import FieldValue, Properties
from amqpjobs.jobs.message.trace_context import SpanIds, carried, trace_parent
from amqpjobs.jobs.surroundings import runs_again, timeout_here

log = logging.getLogger("amqpjobs.job")


class RunContext(Context):
    """The same as the rest of amqpjobs has it: with what handlers are not meant to use.

    Attributes:
        told: what `progress` was told last in this run, or None.
        tell: reports progress; None for the log only.
        span: names the span of this run; None where nothing is traced.
        carrier: the trace headers that the worker gave the process of this run; None in a worker.
        durable: carries out the steps of a durable job; None for another one, and a plain call.
        carried: what the message says of the call's options; None if it says nothing.
        given: its arguments. Set where there is middleware, and nowhere else.
        tokens: there only if the run holds slots: their fencing tokens, by the names of the limits.
        asked_to_end: there only if the job was cancelled: whether its handler has seen it.
        steps: there only in a durable job without a store: what its copies carry.
    """

    asked_to_end: bool
    steps: Remembered
    given: Given
    tokens: Mapping[str, int]

    __slots__ = (
        "asked_to_end", "carried", "carrier", "durable", "given", "span", "steps", "tell", "tokens",
        "told",
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
        # Of a `Context`, which handlers are given and never make.
        self.job = job
        self.job_id = job_id
        self.queue = queue
        self.attempt = attempt
        self.deadline = deadline
        self.epoch = epoch
        self.redelivered = False
        self.stopping = stopping
        self._properties = properties
        self.tell = tell
        self.told: Progress | None = None
        self.span: SpanIds | None = None
        self.carrier: Mapping[str, FieldValue] | None = None
        self.carried: Carried | None = None
        self.durable: Running | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        """See `Context.tags`."""
        return () if self.carried is None else self.carried.tags

    @property
    def timeout(self) -> float | None:
        """See `Context.timeout`."""
        return self.timeout_of(timeout_here(self.job))

    @property
    def will_retry(self) -> bool:
        """See `Context.will_retry`."""
        return self._runs_again(None)

    def would_retry(self, error: BaseException) -> bool:
        """See `Context.would_retry`."""
        return self._runs_again(error)

    def _runs_again(self, error: BaseException | None) -> bool:
        retry = None if self.carried is None else self.carried.retry
        return runs_again(self.job, self.attempt, self.deadline, error, retry)

    def timeout_of(self, own: float | None) -> float | None:
        """Seconds that this run may take: the call's, else the job's own."""
        carried = self.carried
        return own if carried is None or carried.timeout is None else carried.timeout

    def _running(self) -> Running:
        if self.durable is not None:
            return self.durable
        if not self.queue:
            return PLAINLY
        raise ConfigurationError(
            f"the job {self.job!r} is not durable, so its steps cannot be stored: declare it with "
            "durable=True"
        )

    def fence(self, name: str | None = None) -> int:
        """See `Context.fence`."""
        tokens: Mapping[str, int] = getattr(self, "tokens", {})
        if name is None and len(set(tokens.values())) == 1:
            return next(iter(tokens.values()))
        if name is not None and name in tokens:
            return tokens[name]
        if not self.queue:
            return 0  # a plain call
        held = ", ".join(tokens) or "none"
        asked = "" if name is None else f" {name!r}"
        hint = did_you_mean(name, tokens) if name is not None else ""
        raise ConfigurationError(f"this run holds no such slot{asked}; it holds: {held}{hint}")

    @property
    def cancelled(self) -> bool:
        """See `Context.cancelled`."""
        if not hasattr(self, "asked_to_end"):
            return False
        self.asked_to_end = True
        return True

    @property
    def remembered(self) -> Remembered | None:
        """The steps that copies of the message carry; None if they carry none."""
        return getattr(self, "steps", None)

    @property
    def has_seen_cancellation(self) -> bool:
        """Whether the handler was told that it is cancelled, and has looked."""
        return getattr(self, "asked_to_end", False)

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
        """See `Context.trace_id`."""
        if self.span is not None:
            return f"{self.span.trace_id:032x}"
        parent = self.trace_parent
        return parent.split("-")[1] if parent else None

    @property
    def arguments(self) -> MutableMapping[str, Any]:
        """See `Context.arguments`."""
        if not hasattr(self, "given"):
            raise ConfigurationError(
                "ctx.arguments is for processing middleware, of the app, the queue or the job; a "
                "handler has its parameters"
            )
        return self.given.by_name

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
        """See `Context.log`."""
        return JobLogger(log, self.log_keys())

    def log_keys(self) -> dict[str, object]:
        """What every log line about this job carries."""
        keys: dict[str, object] = {
            "job": self.job, "job_id": self.job_id, "queue": self.queue, "attempt": self.attempt,
        }  # fmt: skip
        if self.tags:
            keys["tags"] = list(self.tags)
        trace_id = self.trace_id
        if trace_id:
            keys["trace_id"] = trace_id
        if self.span is not None:
            keys["span_id"] = f"{self.span.span_id:016x}"
            keys["trace_flags"] = f"{self.span.trace_flags:02x}"
        return keys

    def progress(self, fraction: float, message: str = "") -> Awaitable[None]:
        """See `Context.progress`."""
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


def of_this_run(context: Context) -> RunContext:
    """What a processing middleware passes on: the context that it was given.

    Raises:
        ConfigurationError: it is another object.
    """
    if not isinstance(context, RunContext):
        raise ConfigurationError(
            f"a processing middleware passed on {context!r}: pass on the context that it was given"
        )
    return context


class JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the job's keys. Those of the call that have their names get ``extra_`` in front."""

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """See `logging.LoggerAdapter`."""
        own = self.extra or {}
        given = {f"extra_{k}" if k in own else k: v for k, v in (kwargs.get("extra") or {}).items()}
        kwargs["extra"] = {**given, **own}
        return msg, kwargs


Tell = Callable[[RunContext], None]
"""Passes on how far a job is; called in whatever thread the job runs in."""


class _Told:
    """What `Context.progress` returns: there is nothing to wait for any more."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


TOLD = _Told()


current_context: ContextVar[RunContext | None] = ContextVar("amqpjobs_context", default=None)
"""The job that runs here, if one does; log lines and what the job publishes look at it."""


def context_of_nobody() -> Variables:
    """The context variables for what outlives the job or the web request that starts it, such as a
    connection: none, as in a new thread. It must not keep their values, nor log with them."""
    return Variables()


def plain_context(job: str, job_id: str) -> RunContext:
    """The context of a plain call, with no worker around it: nothing will ever stop it."""
    return RunContext(job, job_id, "", 1, None, asyncio.Event(), Properties)
