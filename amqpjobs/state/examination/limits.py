"""Looks at the limits of an app. Changes when there is more to be said of them."""

from typing import TYPE_CHECKING

from amqpjobs.errors import AmqpJobsError
from amqpjobs.jobs.durations import duration_words
from amqpjobs.state.examination.finding import Finding
from amqpjobs.state.limits.looking import look

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

LONG = 3600.0
"""Seconds that a job may wait for a slot."""


async def examine_limits(memory: "Memory") -> list[Finding]:
    """How many slots are held, how many jobs wait, and for how long; nothing for an app whose jobs
    have no limits."""
    jobs = memory.client.runtime.registry.jobs.values()
    if all(job.exclusion is None for job in jobs):
        return []
    try:
        found = await look(memory)
        now = await (await memory.store()).time()
    except AmqpJobsError as error:
        return [Finding("limits", "error", str(error), "start the database: jobs wait for it")]
    held, waiting = sum(len(key.slots) for key in found), sum(key.waiting for key in found)
    text = f"{held} slots held, {waiting} jobs waiting"
    oldest = min((key.oldest for key in found if key.oldest is not None), default=now)
    if now - oldest < LONG:
        return [Finding("limits", "ok", text)]
    longest = f"{text}, the first of them for {duration_words(now - oldest)}"
    return [Finding("limits", "warning", longest, "amqpjobs limits list: who holds their slots")]
