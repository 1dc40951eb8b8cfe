"""What a message carries of the options of its call, for every run of the job.

What it looks like as headers; `amqpjobs.jobs.message.header_names` names them. Changes when another
option travels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.durations import LONGEST_DELAY
from amqpjobs.jobs.message.properties import FieldValue, is_whole
from amqpjobs.jobs.retry import Retry

MAX_TAGS: Final = 16
LONGEST_TAG: Final = 64
"""Characters."""

LONGEST_ID: Final = 255
"""Bytes of the AMQP property ``message_id``."""

LONGEST_RUN: Final = 4_294_967
"""Seconds (49 days) that a call may give a run."""

MAX_ATTEMPTS: Final = 1_000_000

LARGEST_FACTOR: Final = 1_000_000


class Carried(NamedTuple):
    """What a message carries.

    Attributes:
        retry: its numbers replace those of the job's policy; its classes say nothing.
        timeout: seconds that one run may take, in place of the job's timeout.
        tags: words for people.
    """

    retry: Retry | None = None
    timeout: float | None = None
    tags: tuple[str, ...] = ()


def policy_of(carried: Retry, own: Retry) -> Retry:
    """The policy of a job whose message carries one: its numbers, and the job's own classes."""
    return replace(carried, on=own.on, give_up_on=own.give_up_on)


def check_retry(retry: object) -> Retry:
    """A policy that can travel.

    Raises:
        ConfigurationError: it cannot, or it is none.
    """
    if not isinstance(retry, Retry):
        raise ConfigurationError(f"retry is a Retry(...), not {retry!r}")
    if retry.on is not Exception or retry.give_up_on != ():
        raise ConfigurationError(
            "the retry= of a call travels as numbers, and classes of exceptions cannot: give on= "
            "and give_up_on= to the job's own policy, which hold here too"
        )
    try:
        retry_from(retry_table(retry))  # as a worker reads it
    except DecodeError as error:
        raise ConfigurationError(f"the retry= of a call {error}") from None
    return retry


def retry_table(retry: Retry) -> dict[str, FieldValue]:
    """A policy as a header has it. No number of attempts is no end of them."""
    return {
        "attempts": retry.attempts, "first": retry.first, "factor": retry.factor,
        "limit": retry.limit, "jitter": retry.jitter,
    }  # fmt: skip


def retry_from(table: FieldValue) -> Retry:
    """The policy in a header; what it does not say is as in a `Retry` by default.

    Raises:
        DecodeError: it makes no sense.
    """
    if not isinstance(table, Mapping):
        raise DecodeError("is not a table")
    given: dict[str, Any] = {name: table[name] for name in retry_table(Retry()) if name in table}
    attempts, jitter = given.get("attempts"), given.get("jitter", True)
    if attempts is not None and not is_whole(attempts):
        raise DecodeError("has attempts that are no whole number")
    if not isinstance(jitter, bool):
        raise DecodeError("has a jitter that is neither true nor false")
    for name in ("first", "factor", "limit"):
        number = given.get(name, 1)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise DecodeError(f"has a {name} that is no number")
    try:
        retry = Retry(**given)
    except ConfigurationError as error:
        raise DecodeError(f"makes no sense: {error}") from None
    if problem := _numbers_problem(retry):
        raise DecodeError(f"makes no sense: {problem}")
    return retry


def _numbers_problem(retry: Retry) -> str | None:
    if retry.attempts is not None and not 1 <= retry.attempts <= MAX_ATTEMPTS:
        return f"attempts is a number up to {MAX_ATTEMPTS}, not {retry.attempts!r}"
    if not retry.limit <= LONGEST_DELAY:
        return f"limit is a number of seconds up to 8.5 years, not {retry.limit!r}"
    if not retry.factor <= LARGEST_FACTOR:
        return f"factor is a number up to {LARGEST_FACTOR}, not {retry.factor!r}"
    return None


def timeout_from(value: FieldValue) -> float:
    """Seconds that one run may take, of a header that has milliseconds.

    Raises:
        DecodeError: it makes no sense.
    """
    if not is_whole(value) or not 1 <= value <= LONGEST_RUN * 1000:
        raise DecodeError("is not a whole number of milliseconds, up to 49 days")
    return value / 1000


def check_tags(given: object) -> tuple[str, ...]:
    """Tags that a call may have, each once.

    Raises:
        ConfigurationError: they are none, or too many.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigurationError(f"tags are several words: write tags=({given!r},)")
    tags = tuple(dict.fromkeys(given))
    for tag in tags:
        if not _is_tag(tag):
            raise ConfigurationError(
                f"a tag is a str of 1 to {LONGEST_TAG} characters that can be read, not {tag!r}"
            )
    if len(tags) > MAX_TAGS:
        raise ConfigurationError(f"a call has up to {MAX_TAGS} tags, not {len(tags)}")
    return tags


def tags_from(value: FieldValue) -> tuple[str, ...]:
    """The tags in a header. They are only shown: what is none is left out."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        return ()
    tags = dict.fromkeys(tag for tag in value[:MAX_TAGS] if _is_tag(tag))
    return tuple(tag for tag in tags if isinstance(tag, str))


def _is_tag(tag: object) -> bool:
    return isinstance(tag, str) and 1 <= len(tag) <= LONGEST_TAG and tag.isprintable()


def check_id(job_id: object) -> str:
    """An id that a caller chooses.

    Raises:
        ConfigurationError: no message can have it.
    """
    if not isinstance(job_id, str) or not job_id.isprintable() or not job_id.strip():
        raise ConfigurationError(f"id is text that can be read, not {job_id!r}")
    size = len(job_id.encode())
    if size > LONGEST_ID:
        raise ConfigurationError(f"id has {size} bytes, and {LONGEST_ID} is the limit of AMQP")
    return job_id
