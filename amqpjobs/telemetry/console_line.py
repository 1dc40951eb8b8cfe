"""A log line for people: when, how bad, which job and what became of it, how long, its id, and why.

Changes when what a person sees of a line does.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from amqpjobs.jobs.durations import duration_words
from amqpjobs.telemetry.safe_text import printable

EVENT_WIDTH: Final = 36
"""Columns for what happened; what is longer moves the rest of its line to the right."""

TOOK_WIDTH: Final = 8

ID_LENGTH: Final = 8
"""Of an id that is too long to be read, these last characters are shown: the first ones are its
time, which jobs of the same minute share (RFC 9562, version 7)."""

WAITED: Final = 1000
"""Milliseconds that a job has waited for its start, from which on they are shown."""

_COLOURS: Final = {"ERROR": "31", "CRITICAL": "31;1", "WARNING": "33"}

_OF_A_JOB: Final = frozenset({"job", "job_id", "queue", "attempt"})
"""Keys that the columns stand for, or that the job's other lines have as well."""

_NOT_SHOWN: Final = frozenset({"trace_id", "span_id", "trace_flags"})

_OF_A_RUN: Final = _OF_A_JOB | {
    "outcome", "worker", "waited_ms", "running_ms", "reason", "exception", "at", "pause_s",
    "answered", "stale", "deadline",
}  # fmt: skip


def console_line(
    event: str,
    level: str,
    created: float,
    keys: Mapping[str, Any],
    *,
    run: bool,
    colour: bool,
    verbose: bool,
) -> str:
    """The line.

    Args:
        event: what happened.
        level: the name of its level, such as ``INFO``.
        created: when: seconds since the epoch.
        keys: all that the line carries.
        run: whether it is the line of a run that has ended.
        colour: mark warnings and errors.
        verbose: show all keys, as they are.
    """
    clock = time.strftime("%H:%M:%S", time.localtime(created))
    head = f"{level.lower():8} {_what(event, keys, run=run):<{EVENT_WIDTH}}"
    if colour and level in _COLOURS:
        text = head.rstrip()
        head = f"\x1b[{_COLOURS[level]}m{text}\x1b[0m{head[len(text) :]}"
    parts = [clock, head]
    if keys.get("job_id"):
        took = duration_words(keys["running_ms"] / 1000) if run and "running_ms" in keys else ""
        parts += [f"{took:>{TOOK_WIDTH}}", _id(keys["job_id"], whole=level == "ERROR")]
    parts += pairs(keys) if verbose else _rest(keys, run=run)
    return " ".join(parts).rstrip()


def _what(event: str, keys: Mapping[str, Any], *, run: bool) -> str:
    job = one_line(keys["job"]) if keys.get("job") else ""
    if run:
        return f"{job or 'job'} {keys['outcome']}"
    return f"{job}: {printable(event)}" if job else printable(event)


def _id(job_id: object, *, whole: bool) -> str:
    text = one_line(job_id)
    # One that failed for good is looked up next: `amqpjobs dead show`.
    return text if whole or len(text) <= 2 * ID_LENGTH else text[-ID_LENGTH:]


def _rest(keys: Mapping[str, Any], *, run: bool) -> Iterator[str]:
    if run:
        why = "; ".join(_why(keys))
        if why:
            yield why
    known = _OF_A_RUN if run else _OF_A_JOB if keys.get("job") else frozenset[str]()
    yield from pairs({k: v for k, v in keys.items() if k not in known | _NOT_SHOWN})


def _why(keys: Mapping[str, Any]) -> Iterator[str]:
    """Why a run ended as it did, and what comes next."""
    reason = " ".join(printable(str(keys.get("reason") or "")).split())
    if "exception" in keys:
        yield f"{one_line(keys['exception'])}: {reason}".removesuffix(": ")
    elif reason:
        yield reason
    if "at" in keys:
        yield f"at {'/'.join(one_line(keys['at']).rsplit('/', 2)[-2:])}"
    if "deadline" in keys:
        yield f"{duration_words(max(0.0, time.time() - keys['deadline']))} too late"
    if keys.get("answered"):
        yield "the caller got the error"
    if "pause_s" in keys:
        yield f"again in {duration_words(keys['pause_s'])}"
    if keys.get("stale"):
        yield "its channel was lost, so it runs again"
    if keys.get("attempt", 1) != 1:
        yield f"attempt {keys['attempt']}"
    elif keys.get("waited_ms", 0) >= WAITED:  # of a retry with the runs and pauses before it
        yield f"waited {duration_words(keys['waited_ms'] / 1000)}"


def pairs(keys: Mapping[str, Any]) -> Iterator[str]:
    """Keys and values as ``key=value``, one line."""
    for key, value in keys.items():
        text = one_line(value)
        yield f'{one_line(key)}="{text}"' if " " in text or not text else f"{one_line(key)}={text}"


def one_line(value: object) -> str:
    """A value as text that neither acts on a terminal nor ends the line."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
