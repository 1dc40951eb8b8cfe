"""The sentences that say why a job does not run. Changes when a sentence does."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from amqpjobs.jobs.durations import duration_words

if TYPE_CHECKING:
    from amqpjobs.jobs.message.status import JobStatus
    from amqpjobs.state.why.broker import QueueSeen
    from amqpjobs.state.why.stored import InOutbox, Waits

Said = tuple[str, str]
"""The reason as one word for programs, and the sentence."""


def at(seconds: float) -> str:
    """A time in UTC, as ISO 8601."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s since the epoch"


def span(now: float, since: float) -> str:
    """The time since then, in words."""
    return duration_words(max(0.0, now - since))


def count(number: int, one: str, many: str) -> str:
    """A number with the singular or the plural."""
    return f"1 {one}" if number == 1 else f"{number} {many}"


def of_outbox(found: "InOutbox", now: float) -> Said:
    """Why a message is still in the outbox."""
    if found.refused is not None:
        return "refused", (
            f"RabbitMQ refuses its message, which stays in the outbox: {found.refused} "
            "(amqpjobs outbox retry)"
        )
    return "outbox", f"its message waits in the outbox for {span(now, found.since)}"


def of_wait(found: "Waits", now: float) -> Said:
    """Why a message waits for a slot, or for the end of a debounce."""
    if found.debounced:
        due = "" if found.due is None else f" until {at(found.due)}"
        return "debounced", f"it waits for the end of its debounce{due}"
    if not found.slots:
        return "limit", f"it waits for the limit {found.key}, which is free: it is sent next"
    first = found.slots[0]
    where = f" on {first.worker}" if first.worker else ""
    others = len(found.slots) - 1
    more = "" if not others else f" and {count(others, 'other', 'others')}"
    held = f"held by the job {first.job_id}{where}{more}"
    return "limit", f"it waits for the limit {found.key}, {held}, for {span(now, found.since)}"


def of_status(found: "JobStatus", now: float) -> Said | None:
    """The reason in the recorded status; None if the status does not say where the job is."""
    error = f": {found.error}" if found.error else ""
    ended = "" if found.ended_at is None else f" since {at(found.ended_at)}"
    match found.state:
        case "done":
            return "done", f"it is done{ended}"
        case "failed" if found.answered:
            return "failed", f"it has failed and its caller got the error (no dead letter){error}"
        case "failed":
            reason = f" ({found.reason})" if found.reason else ""
            return "failed", f"it is a dead letter of the queue {found.queue}{reason}{error}"
        case "parked":
            return "parked", f"it is parked in the queue {found.queue}.parked{error}"
        case "expired" | "cancelled" | "skipped":
            words = f": {found.detail}" if found.detail else ""
            return found.state, f"it is {found.state}{ended}{words}"
        case "retrying" if found.due_at is not None and found.due_at > now:
            return "delayed", f"it is delayed until {at(found.due_at)}, after a failed run{error}"
        case _ if found.due_at is not None and found.due_at > now:
            return "delayed", f"it is delayed until {at(found.due_at)}"
    return None


def of_queue(seen: "QueueSeen") -> Said:
    """Why a job waits in its queue."""
    if not seen.exists:
        return "missing", f"its queue {seen.name} does not exist: run amqpjobs topology apply"
    if seen.paused:
        who = f"by {seen.paused_by}" if seen.paused_by else "by an operator or a kill switch"
        until = "" if seen.paused_until is None else f" until {at(seen.paused_until)}"
        return "paused", f"its queue {seen.name} is paused {who}{until}"
    if not seen.consumers:
        waiting = count(seen.ready, "job waits", "jobs wait")
        return "unconsumed", f"no worker consumes its queue {seen.name}, where {waiting}"
    workers = count(seen.consumers, "worker consumes", "workers consume")
    if not seen.ready:
        return "received", (
            f"no job waits in its queue {seen.name}, which {workers}: a worker has received it and "
            "has not begun it, or its message is lost"
        )
    others = count(seen.ready - 1, "other", "others")
    rate = f", at {seen.rate} each" if seen.rate else ""
    ahead = f"it waits behind at most {others} in the queue {seen.name}"
    return "queued", f"{ahead}, which {workers}{rate}"
