"""Cancelled jobs in the store, for workers that were not there when they were cancelled.

Changes when what is kept of a cancellation does.
"""

from typing import TYPE_CHECKING

from amqpjobs.state.status.opening import open_store
from amqpjobs.state.store.engine import store_exists

if TYPE_CHECKING:
    from amqpjobs.settings import Settings


async def cancelled_in_store(
    settings: "Settings", app: str, now: float, most: int
) -> list[tuple[str, str, float]]:
    """The cancelled jobs of an app that are still remembered: id, reason, and until when (seconds
    since the epoch), the oldest first. None where there is no store yet.

    Raises:
        ConfigurationError: the store cannot be used, or is behind.
        StoreUnavailable: it cannot be reached.
    """
    if not store_exists(settings):
        return []
    store = await open_store(settings)
    try:
        return await store.cancelled(app, now, most)
    finally:
        await store.close()


async def store_cancelled(
    settings: "Settings", app: str, job_id: str, reason: str, now: float, until: float
) -> bool:
    """Keep a cancellation, if a store is configured (``AMQPJOBS_STORE_URL``).

    Returns:
        Whether it is kept.

    Raises:
        ConfigurationError: the store cannot be used, or is behind.
        StoreUnavailable: it cannot be reached.
    """
    if "store_url" not in settings.model_fields_set:
        return False
    store = await open_store(settings)
    try:
        await store.cancel(app, job_id, reason, now, until)
    finally:
        await store.close()
    return True
