"""Looks at all limits of an app, for `amqpjobs doctor`. Changes when there is more to be said."""

from typing import TYPE_CHECKING

from amqpjobs.errors import AmqpJobsError
from amqpjobs.jobs.durations import duration_words
from amqpjobs.state.status.examination import Finding

if TYPE_CHECKING:
    from amqpjobs.client.client import Client

LONG = 3600.0
"""Seconds that a job may wait for a slot."""


async def examine_limits(client: "Client") -> Finding:
    """How many slots are held, how many jobs wait, and for how long."""
    from amqpjobs.state.limits.looking import look
    from amqpjobs.state.memory import memory_of

    memory = memory_of(client)
    try:
        found = await look(memory)
        store = await memory.store()
        now = await store.time()
    except AmqpJobsError as error:
        return Finding(str(error), "start the database: jobs with a limit wait for it")
    finally:
        await memory.close()
    held, waiting = sum(len(key.slots) for key in found), sum(key.waiting for key in found)
    text = f"{held} slots are held, {waiting} jobs wait"
    oldest = min((key.oldest for key in found if key.oldest is not None), default=now)
    if now - oldest < LONG:
        return Finding(text)
    longest = f"{text}, the first of them for {duration_words(now - oldest)}"
    return Finding(longest, "amqpjobs limits list: who holds their slots, and since when")
