"""Events to JSON and back: one message is an array of objects. Changes when their format does."""

import socket
import time
from collections.abc import Iterable
from os import getpid
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from typing_extensions import TypedDict

from amqpjobs.jobs.message.carried import LONGEST_TAG, MAX_TAGS
from amqpjobs.jobs.message.events import QUEUED, STATES, Announcement, Event

WORKER = f"{socket.gethostname()}:{getpid()}"

_NO_NUL = r"^[^\x00]*$"
_Name = Annotated[str, StringConstraints(max_length=255, pattern=_NO_NUL)]
_Text = Annotated[str, StringConstraints(max_length=10_000, pattern=_NO_NUL)]
_Tag = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TAG, pattern=_NO_NUL)]
_Time = Annotated[float, Field(ge=0, le=1e13, allow_inf_nan=False)]


class _Checked(TypedDict):
    """An event as strangers may have written it. What a database could not hold is refused here:
    one such event would otherwise hold up all that are written together with it."""

    __pydantic_config__ = ConfigDict(extra="ignore", strict=True)  # type: ignore[misc]

    id: Annotated[_Name, StringConstraints(min_length=1)]
    job: _Name
    queue: _Name
    state: Literal[STATES]  # type: ignore[valid-type]
    epoch: Annotated[int, Field(ge=0, lt=2**31)]
    attempt: Annotated[int, Field(ge=0, le=1_000_000)]
    sequence: Annotated[int, Field(ge=0, lt=2**63)]
    started: NotRequired[_Time]
    due: NotRequired[_Time]
    progress: NotRequired[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]]
    detail: NotRequired[_Text]
    error: NotRequired[_Text]
    reason: NotRequired[_Name]
    answered: NotRequired[bool]
    worker: NotRequired[_Name]
    result: NotRequired[Any]
    keep: NotRequired[_Time]
    tags: NotRequired[Annotated[list[_Tag], Field(max_length=MAX_TAGS)]]


_ONE: TypeAdapter[Any] = TypeAdapter(_Checked)
_MANY: TypeAdapter[Any] = TypeAdapter(list[_Checked])


def encode_events(announcements: Iterable[Announcement]) -> bytes:
    """The body of a message of events."""
    # Here, not when an event is made: the two clocks are compared once for all of them.
    epoch = time.time() - time.monotonic()
    return to_json([_event(announcement, epoch) for announcement in announcements])


def _event(announcement: Announcement, monotonic_epoch: float) -> dict[str, Any]:
    job_id, job, queue, state, epoch, attempt, sequence, begun, details = announcement
    event: dict[str, Any] = {
        "id": job_id, "job": job, "queue": queue, "state": state, "epoch": epoch,
        "attempt": attempt, "sequence": sequence,
    }  # fmt: skip
    if state != QUEUED:
        event["worker"] = WORKER
    if begun:
        event["started"] = begun + monotonic_epoch
    if details is not None:
        event.update(details)
        result = details.get("result")
        if result is not None:
            event["result"] = from_json(result)
    return event


def decode_events(body: bytes) -> tuple[list[Event], int]:
    """The events of a message, and how many were dropped since they are none. Whoever may publish
    wrote them: nothing else is let through."""
    try:
        return _MANY.validate_json(body), 0
    except ValidationError:
        pass  # then one by one
    try:
        found = from_json(body)
    except ValueError:
        return [], 1
    if not isinstance(found, list):
        return [], 1
    events: list[Event] = []
    for item in found:
        try:
            events.append(_ONE.validate_python(item))
        except ValidationError:
            continue
    return events, len(found) - len(events)


def encode_result(value: Any) -> str:
    """A result as the store keeps it."""
    return to_json(value).decode()


def decode_result(text: str) -> Any:
    """The same, read."""
    return from_json(text)
