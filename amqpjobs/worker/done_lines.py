"""The log line of a job that is done, made without a `logging.LogRecord`.

It is the commonest line, and by way of `logging` it costs as much as all the rest of a no-op job.
Here it is made where nothing but our own handler would see the record, and is the same to the
letter: a test compares them. Changes with `amqpjobs.worker.reporting` or the JSON of
`amqpjobs.telemetry.logs`.
"""

import logging
from json.encoder import encode_basestring
from time import time

from amqpjobs.jobs.message.event_codec import WORKER
from amqpjobs.jobs.run_context import RunContext, current_context
from amqpjobs.telemetry.log_stream import LogBuffer
from amqpjobs.telemetry.logs import JsonFormatter, timestamp
from amqpjobs.telemetry.safe_text import on_one_line
from amqpjobs.telemetry.traces.propagation import span_keys
from amqpjobs.worker.run import Run

_METHODS = ("makeRecord", "handle", "callHandlers")
"""What libraries replace to see records (sentry-sdk, ddtrace)."""

_OWN = tuple(getattr(logging.Logger, name) for name in _METHODS)

_UNTOUCHED = all(method.__module__ == "logging" for method in _OWN)
"""Whether they were logging's own when this was imported."""


class DoneLines:
    """Makes the lines of one logger.

    Args:
        logger: whose lines they are.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._texts: dict[tuple[str, str], tuple[str, str, str]] = {}
        self._ends: tuple[str, str] = (
            f', "outcome": "done", "worker": {_text(WORKER)}',
            f', "level": "info", "logger": {_text(logger.name)}, "event": "job done"',
        )

    def buffer(self) -> LogBuffer | None:
        """Where a line may go directly: None if anything else might want to see its record."""
        logger = self._logger
        found = None
        while (above := logger.parent) is not None:  # one may come in between at any time
            if (
                logger.filters
                or not logger.propagate
                or (logger.handlers and any(each.level <= logging.INFO for each in logger.handlers))
            ):
                return None
            logger = above
        for handler in logger.handlers:
            if handler.level > logging.INFO:
                continue
            if found is not None or type(handler) is not LogBuffer:
                return None
            found = handler
        if found is None or found.filters or type(found.formatter) is not JsonFormatter:
            return None
        return None if _is_watched(self._logger) else found

    def put(self, buffer: LogBuffer, run: Run, waited: float | None, running: float) -> bool:
        """Write the line of a run, if it is as most are; else nothing is written.

        Args:
            buffer: of `buffer`.
            run: that is done.
            waited: seconds from enqueueing to its start, if known.
            running: seconds since then.
        """
        context = run.context
        if (
            context is None
            or context.span is not None
            or run.delivery.header.raw_headers
            or run.delivery.stale
            or current_context.get() is not None
            or span_keys()
        ):
            return False
        job_id = encode_basestring(context.job_id)
        if not job_id.isascii():
            return False
        head, queue, end = self._texts.get((context.job, context.queue)) or self._remember(context)
        wait = "" if waited is None else f', "waited_ms": {waited * 1000:.1f}'
        buffer.put(
            f'{{"timestamp": "{timestamp(time())}"{head}{job_id}{queue}{context.attempt}{end}{wait}'
            f', "running_ms": {running * 1000:.1f}}}'
        )
        return True

    def _remember(self, context: RunContext) -> tuple[str, str, str]:
        worker, head = self._ends
        texts = self._texts[context.job, context.queue] = (
            f'{head}, "job": {_text(context.job)}, "job_id": ',
            f', "queue": {_text(context.queue)}, "attempt": ',
            worker,
        )
        return texts


def _text(text: str) -> str:
    quoted = encode_basestring(text)
    if quoted.isascii():
        return quoted
    return on_one_line(quoted).encode(errors="backslashreplace").decode()


def _is_watched(logger: logging.Logger) -> bool:
    kind = logging.Logger
    now = (kind.makeRecord, kind.handle, kind.callHandlers)
    return (
        now != _OWN
        or not _UNTOUCHED
        or type(logger) is not kind
        or logging.getLogRecordFactory() is not logging.LogRecord
    )
