"""Looks at the schedules of an app as a whole, for people. Changes when there is more to say."""

import importlib.util
import time
from typing import TYPE_CHECKING

from amqpjobs.errors import AmqpJobsError
from amqpjobs.state.examination.finding import Finding
from amqpjobs.state.memory import memory_of
from amqpjobs.state.schedules.mechanism import GIVE_A_STORE, Mechanism, mechanism_of
from amqpjobs.state.store.engine import store_exists

if TYPE_CHECKING:
    from amqpjobs.client.client import Client

LATE = 60.0
"""Seconds for which a schedule is due, from which on nobody seems to fire it."""

SKEW = 1.0
"""Seconds between this clock and the database's, from which on people read wrong times."""


NAME = "schedules"


def _warning(text: str, fix: str) -> Finding:
    return Finding(NAME, "warning", text, fix)


async def examine_schedules(client: "Client") -> list[Finding]:
    """How the schedules fire, and what is wrong with that; nothing for an app without schedules."""
    runtime = client.runtime
    registry, mechanism = runtime.registry, mechanism_of(runtime.settings)
    how = f"{len(registry.schedules)} in the code, fired by {mechanism.value}"
    if mechanism is Mechanism.QUEUE:
        once = f"{how}: usually once, and nothing missed is made up for"
        return [_warning(once, GIVE_A_STORE)] if registry.schedules else []
    if importlib.util.find_spec("sqlalchemy") is None:
        return []  # what is missing is said of the store
    if not store_exists(runtime.settings):
        text = f"{how}: no process has run yet"
        return [Finding(NAME, "ok", text)] if registry.schedules else []
    try:
        from amqpjobs.state.examination.databases import closing

        async with closing(memory_of(client)):
            return await _examine(client, how, mechanism)
    except AmqpJobsError:
        return []  # what is wrong with the store is said of the store


async def _examine(client: "Client", how: str, mechanism: Mechanism) -> list[Finding]:
    from amqpjobs.state.schedules.looking import counted, oldest_overdue

    memory = memory_of(client)
    store, jobs = await memory.store(), list(client.runtime.registry.jobs)
    begun = time.time()
    there = await store.time()
    skew = there - (begun + time.time()) / 2
    put, running = await store.run(counted, memory.app, store.now)
    if not put and not client.runtime.registry.schedules:
        return []
    words = f"{how}, {put} put at run time, {running} with a job that has not ended"
    found = [Finding(NAME, "ok", words)]
    if mechanism is Mechanism.ROWS_AND_QUEUE:
        fix = "if this is the only one, set AMQPJOBS_STORE_SHARED=1; else a PostgreSQL"
        found = [_warning(f"{words}: usually once if machines have files of their own", fix)]
    overdue = await store.run(oldest_overdue, memory.app, jobs, store.now)
    if overdue is not None and overdue[0] > LATE:
        seconds, name = overdue
        text = f"{name!r} is due since {seconds:.0f} s, and was not sent"
        found.append(_warning(text, "does a worker, a web tier or a recorder of this app run?"))
    if abs(skew) > SKEW:
        text = f"the clock of the database is {skew:+.1f} s off this machine's"
        found.append(_warning(text, "run an NTP client on both: schedules go by the database"))
    return found
