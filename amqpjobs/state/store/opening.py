"""Opening the store where the extra `sql` may be missing. Changes when opening does."""

from typing import TYPE_CHECKING

from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.state.store.engine import missing

if TYPE_CHECKING:
    from amqpjobs.settings import Settings
    from amqpjobs.state.store.durable import DurableStore


async def open_durable(settings: "Settings", clock: Clock = MACHINE) -> "DurableStore":
    """The store for what is promised, open and up to date.

    Raises:
        ConfigurationError: it cannot be, or is behind; see `DurableStore.open`.
        StoreUnavailable: it cannot be reached.
    """
    try:
        from amqpjobs.state.store.durable import DurableStore
    except ImportError as error:
        raise missing(error) from error
    store = DurableStore(settings, clock)
    try:
        return await store.open()
    except BaseException:
        await store.close()
        raise
