"""Looks at the outbox of an app, wherever it is. Changes when there is more to say of it."""

from typing import TYPE_CHECKING

from amqpjobs.errors import AmqpJobsError
from amqpjobs.state.examination.finding import Finding
from amqpjobs.state.outbox.looking import held_by

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

LATE = 60.0
"""Seconds that a message waits to be sent, from which on it is told."""


async def examine_outbox(memory: "Memory") -> list[Finding]:
    """What waits in it, and what RabbitMQ has refused."""
    from amqpjobs.state.outbox.places import Bound

    bind = memory.outbox.bind
    place = "" if bind is None else f" in {Bound(bind).name}"
    try:
        held = await held_by(memory)
    except AmqpJobsError as error:
        fix = "start the database; or migrate your models, for app.outbox(Base.metadata)"
        return [Finding("outbox", "error", str(error), fix)]
    found = []
    if held.failed:
        said = (
            f"{_messages(held.failed)}{place} cannot be sent; the last, of the job "
            f"{held.failed_job!r}: {held.error}"
        )
        fix = "correct the cause, then `amqpjobs outbox retry --all`; `outbox list` shows them"
        found.append(Finding("outbox", "error", said, fix))
    if held.oldest is not None and held.oldest > LATE:
        said = f"{_messages(held.open)} not sent yet{place}, the oldest for {held.oldest:.0f} s"
        fix = (
            "run `amqpjobs consume`, `web` or `record` of this app, without AMQPJOBS_HOUSEKEEPING=0"
            "; where one runs, its log says why it has to wait"
        )
        found.append(Finding("outbox", "warning", said, fix))
    if not found:
        waits = f"{_messages(held.open)} on the way" if held.open else "nothing waits"
        found.append(Finding("outbox", "ok", f"{waits}{place}"))
    return found


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"
