"""What a delivery says of itself, read and checked: anyone may have written it.

Changes when another header is read before a job is started.
"""

from typing import NoReturn

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.headers import HEADER_ATTEMPT, HEADER_DUE
from amqpjobs.jobs.message.properties import JSON, Headers

LAST_MOMENT = 2**53 / 1000
"""Seconds since the epoch. Beyond, a float does not have milliseconds any more."""


def check_content(content_type: str | None, encoding: str | None) -> None:
    """A stranger may leave the type out, or say more than needed; JSON it must be."""
    if content_type and content_type.partition(";")[0].strip().lower() != JSON:
        raise DecodeError(f"content type {content_type[:100]!r}; it must be {JSON}")
    if encoding and encoding.lower() not in ("utf-8", "identity"):
        raise DecodeError(f"content encoding {encoding[:100]!r} is not accepted")


def too_large(body: bytes, limit: int) -> NoReturn:
    """Refuse a body."""
    raise DecodeError(f"the body has {len(body)} bytes, AMQPJOBS_MAX_MESSAGE_SIZE is {limit}")


def attempt_of(headers: Headers) -> int:
    """Which run it is, from 1."""
    attempt = headers.get(HEADER_ATTEMPT)
    if attempt is None:
        return 1
    if isinstance(attempt, bool) or not isinstance(attempt, int) or not 1 <= attempt <= 1_000_000:
        raise DecodeError(f"header {HEADER_ATTEMPT} is not a whole number from 1")
    return attempt


def milliseconds(headers: Headers, name: str) -> float | None:
    """A time, in seconds since the epoch; None if the header is not there."""
    moment = headers.get(name)
    if moment is None:
        return None
    if isinstance(moment, bool) or not isinstance(moment, int) or moment < 0:
        raise DecodeError(f"header {name} is not milliseconds since the epoch")
    return moment / 1000


def due_of(headers: Headers) -> float | None:
    """When it is due, in seconds since the epoch; None for now."""
    due = milliseconds(headers, HEADER_DUE)
    if due is not None and due > LAST_MOMENT:
        raise DecodeError(f"header {HEADER_DUE} is after the year 287396")
    return due
