"""Whether an app needs the store, and whether a process looks after it.

Nothing here imports SQLAlchemy for an app that does not. Changes when another feature needs it.
"""

import importlib.util
from typing import TYPE_CHECKING

from amqpjobs.state.memory import memory_of
from amqpjobs.state.schedules.mechanism import check_store

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.jobs.registry import Registry
    from amqpjobs.state.housekeeping import Housekeeping


def needs_store(registry: "Registry") -> bool:
    """Whether the app has declared anything that is remembered in the store."""
    return registry.outbox is not None or any(job.remembers for job in registry.jobs.values())


def housekeeping_of(client: "Client") -> "Housekeeping | None":
    """The housekeeping of a process for an app, to be run on this event loop.

    Returns:
        None where there is nothing to do: the app has no schedules and has declared nothing that
        needs the store, and none is configured; or ``AMQPJOBS_HOUSEKEEPING=0``.

    Raises:
        ConfigurationError: the extra ``sql`` is missing, and the app needs it: or a store is
            configured and it has schedules, which other processes may fire from there.
    """
    runtime = client.runtime
    if not runtime.settings.housekeeping:
        return None
    if not needs_store(runtime.registry):
        # What another process of the app may have left in the outbox of a store that is there, and
        # its schedules.
        given = "store_url" in runtime.settings.model_fields_set
        if not given:
            return _without_store(client)
        if importlib.util.find_spec("sqlalchemy") is None:
            if runtime.registry.schedules:
                check_store(runtime.settings, "schedule=")
            return None
    from amqpjobs.state.duties import duties_of
    from amqpjobs.state.housekeeping import Housekeeping

    memory = memory_of(client)
    return Housekeeping(memory, duties_of(memory))


def _without_store(client: "Client") -> "Housekeeping | None":
    """What is done where nothing is remembered: schedules fire, and nothing of SQLAlchemy is
    imported."""
    if not client.runtime.registry.schedules:
        return None
    from amqpjobs.state.housekeeping import Housekeeping
    from amqpjobs.state.schedules.unstored import FiresUnstored

    return Housekeeping(memory_of(client), [FiresUnstored(client)])
