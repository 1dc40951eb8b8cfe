"""Dead letters and groups as rows of tables and as JSON. Changes when a column does."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from amqpjobs.cli.output import YELLOW, Moment, moment
from amqpjobs.telemetry.safe_text import text_in

if TYPE_CHECKING:
    from amqpjobs.client.deadletters import Group, Letter
    from amqpjobs.jobs.message.failure import Failure

LETTERS = ("time", "id", "job", "why")
GROUPS = ("group", "count", "first", "last", "queue", "why")
HISTORY = ("time", "attempt", "why", "worker")

SHOWN = ("content_type", "priority", "correlation_id", "reply_to", "timestamp", "app_id")

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')

RECENT = 3600.0
"""Seconds: what failed since then may go on failing."""


def mark(column: str, row: Mapping[str, Any]) -> str | None:
    """What failed lately."""
    last = row.get(column) if column in ("last", "time") else None
    return YELLOW if isinstance(last, Moment) and last.age < RECENT else None


def letter_row(letter: "Letter") -> dict[str, Any]:
    """One line of the list of letters."""
    return {
        "id": letter.id,
        "job": letter.job,
        "queue": letter.queue,
        **_failure_row(letter.failure),
        "time": moment(letter.time),
        "worker": letter.failure.worker if letter.failure else None,
        "bytes": letter.size,
        "group": letter.group,
        "why": why(letter.failure),
    }


def group_row(group: "Group") -> dict[str, Any]:
    """One line of the list of groups."""
    return {
        "group": group.id,
        "count": group.count,
        "first": moment(group.first),
        "last": moment(group.last),
        "queue": ", ".join(group.queues),
        "job": ", ".join(group.jobs),
        **_failure_row(group.example.failure),
        "example": group.example.id,
        "why": why(group.example.failure),
    }


def _failure_row(failure: "Failure | None") -> dict[str, Any]:
    return {
        "reason": failure.reason if failure else None,
        "exception": failure.exception if failure else None,
        "message": failure.message if failure else None,
        "frames": list(failure.frames) if failure else [],
    }


def why(failure: "Failure | None") -> str | None:
    """A failure in one line."""
    if failure is None:
        return None
    parts = (failure.reason, failure.exception, failure.message)
    return ": ".join(part for part in parts if part) or None


def whole_row(letter: "Letter") -> dict[str, Any]:
    """Everything about one: the body as JSON if it is, else in base64, and as text if it is."""
    from amqpjobs.jobs.message.header_names import FAILURES
    from amqpjobs.jobs.message.headers import history_of

    properties = letter.properties
    row = letter_row(letter)
    row["place"] = letter.place
    told = {name: getattr(properties, name) for name in SHOWN}
    row["properties"] = {name: value for name, value in told.items() if value is not None}
    row["headers"] = {k: v for k, v in properties.headers.items() if k not in FAILURES}
    row["history"] = [history_row(failure) for failure in history_of(properties.headers)]
    try:
        row["body"], row["json"] = json.loads(letter.readable_body), True
    except (ValueError, RecursionError):
        row["body"], row["json"] = base64.b64encode(letter.body).decode(), False
        if (text := text_in(letter.readable_body)) is not None:
            row["text"] = text
    return row


def history_row(failure: "Failure") -> dict[str, Any]:
    """One error of an earlier run."""
    return {
        "time": moment(failure.time),
        "attempt": failure.attempt,
        "why": why(failure),
        "worker": failure.worker,
        **_failure_row(failure),
    }


def pretty(body: bytes) -> str | None:
    """A body of JSON with line breaks, its tokens as they are: no number is rounded, and nothing
    that is written twice is lost. None for one that is not JSON."""
    try:
        json.loads(body)
        text = body.decode()
    except (ValueError, RecursionError):
        return None
    return "".join(_indented(_TOKEN.findall(text)))


def compact(text: str) -> bytes:
    """JSON without the white space that `pretty` put in."""
    return "".join(_TOKEN.findall(text)).encode()


def _indented(parts: list[str]) -> Iterator[str]:
    depth = 0
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        if part in "]}":
            yield part
        elif part in "[{":
            depth += following not in "]}"
            yield part if following in "]}" else f"{part}\n{'  ' * depth}"
        elif part == ",":
            yield f",\n{'  ' * depth}"
        else:
            yield ": " if part == ":" else part
        if following and following in "]}" and part not in "[{":
            depth -= 1
            yield f"\n{'  ' * depth}"
