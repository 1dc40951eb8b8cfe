"""What a request to cancel a job says, and what came of it.

Changes when there is another answer to it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from amqpjobs.errors import DecodeError

BY_AN_OPERATOR = "cancelled on request"
"""The reason, where none was given."""

REMEMBERED_FOR = 86_400.0
"""Seconds for which a worker remembers a job that is not to run, and the store does."""

LONGEST_REASON = 200
"""Characters of a reason."""

Found: TypeAlias = Literal["cancelled", "running", "noted"]
"""What a worker has done: cancelled a run; found a run that may not be cancelled; or remembered
it."""


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What came of a request to cancel a job.

    Attributes:
        id: the job's id.
        cancelled: workers that have cancelled a run of it, as ``host:pid``.
        running: workers where it runs on, since it is not ``cancellable``: if this run fails, there
            is no other one.
        workers: all workers that know of it now, and will not start the job.
        stored: whether it is in the store, so that workers which start later know of it.
    """

    id: str
    cancelled: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    stored: bool = False


def request_body(reason: str) -> bytes:
    """The body of the request to all workers."""
    return json.dumps({"reason": reason[:LONGEST_REASON]}).encode()


def reason_in(body: bytes) -> str:
    """The reason in such a body; anybody may have written it.

    Raises:
        DecodeError: it is none.
    """
    told = _object(body)
    reason = told.get("reason", "")
    if not isinstance(reason, str):
        raise DecodeError("the reason of a cancellation is no text")
    return reason[:LONGEST_REASON] or BY_AN_OPERATOR


def answer_body(worker: str, found: Found) -> bytes:
    """What a worker answers."""
    return json.dumps({"worker": worker, "found": found}).encode()


def read_answer(body: bytes) -> tuple[str, str]:
    """The worker, and what it has done.

    Raises:
        DecodeError: it is no such answer.
    """
    told = _object(body)
    worker, found = told.get("worker"), told.get("found")
    if not isinstance(worker, str) or not isinstance(found, str):
        raise DecodeError("the answer of a worker to a cancellation cannot be read")
    return worker, found


def _object(body: bytes) -> Mapping[str, object]:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not JSON: {error}") from None
    if not isinstance(told, Mapping):
        raise DecodeError("not a JSON object")
    return told
