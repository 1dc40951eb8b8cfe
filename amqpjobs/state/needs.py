"""Whether an app needs the store, and whether a process looks after it.

Nothing here imports SQLAlchemy for an app that does not. Changes when another feature needs it.
"""

import importlib.util
from typing import TYPE_CHECKING

from amqpjobs.errors import ConfigurationError
from amqpjobs.state.memory import memory_of
from amqpjobs.state.schedules.mechanism import Mechanism, check_store, mechanism_of
from amqpjobs.state.store.engine import missing

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.jobs.registry import Registry
    from amqpjobs.state.housekeeping import Housekeeping
    from amqpjobs.state.memory import Memory


MOST_NAMES = 3
"""Of jobs that are named."""


def needs_store(registry: "Registry") -> bool:
    """Whether the app has declared anything that is remembered in the store."""
    return registry.outbox is not None or any(job.remembers for job in registry.jobs.values())


def needed_by(registry: "Registry") -> list[str]:
    """What of an app needs the database of ``AMQPJOBS_STORE_URL``, in words. An outbox, with what
    ``once=`` keeps, may be in another one: ``app.outbox(metadata, bind=...)``."""
    elsewhere = getattr(registry.outbox, "bind", None) is not None
    jobs = sorted(job.name for job in registry.jobs.values() if job.once and not elsewhere)
    found = ["app.outbox"] if registry.outbox is not None and not elsewhere else []
    shown = jobs if len(jobs) <= MOST_NAMES else [*jobs[:MOST_NAMES], "others"]
    return [*found, *(f"the job {name}" for name in shown)]


def uses_store(client: "Client") -> bool:
    """Whether there may be something of the app in the store: it has declared that, or a store is
    configured, and another process of the app may have left something in its outbox."""
    if needs_store(client.runtime.registry):
        return True
    given = "store_url" in client.runtime.settings.model_fields_set
    return given and importlib.util.find_spec("sqlalchemy") is not None


def has_durable(client: "Client") -> bool:
    """Whether there may be durable jobs of the app in the store: it has declared one; or a store is
    configured, and another process may have sent a pipeline."""
    registry = client.runtime.registry
    declared = any(job.durable for job in registry.jobs.values())
    return declared or registry.has_pipelines or uses_store(client)


def memory_with_store(client: "Client", what: str) -> "Memory":
    """The memory of a client's app, for what needs the store.

    Args:
        what: needs it.

    Raises:
        ConfigurationError: the extra ``sql`` is missing, or no store is used.
    """
    if not uses_store(client):
        raise ConfigurationError(
            f"{what} is for durable jobs, which are kept in the store, and none is set: set "
            "AMQPJOBS_STORE_URL"
        )
    if importlib.util.find_spec("sqlalchemy") is None:
        raise missing(ImportError("sqlalchemy"))
    return memory_of(client)


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
    if not uses_store(client):
        return _without_store(client)
    from amqpjobs.state.duties import duties_of, measures_of
    from amqpjobs.state.housekeeping import Housekeeping

    memory = memory_of(client)
    return Housekeeping(memory, [*duties_of(memory), *measures_of(memory)])


def _without_store(client: "Client") -> "Housekeeping | None":
    """What is done where nothing is remembered: schedules fire, and nothing of SQLAlchemy is
    imported."""
    runtime = client.runtime
    if not runtime.registry.schedules:
        return None
    if mechanism_of(runtime.settings) is not Mechanism.QUEUE:
        check_store(runtime.settings, "schedule=")  # raises: others may fire them from there
    from amqpjobs.state.housekeeping import Housekeeping
    from amqpjobs.state.schedules.unstored import FiresUnstored

    return Housekeeping(memory_of(client), [FiresUnstored(client)])
