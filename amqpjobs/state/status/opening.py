"""Opening the store of statuses, where the extra `sql` may be missing.

Changes when opening does.
"""

from typing import TYPE_CHECKING

from amqpjobs.state.store.engine import missing

if TYPE_CHECKING:
    from amqpjobs.settings import Settings
    from amqpjobs.state.status.store import Store


async def open_store(settings: "Settings") -> "Store":
    """The store, open and up to date.

    Raises:
        ConfigurationError: it cannot be, or is behind; see `Store.open`.
        StoreUnavailable: it cannot be reached.
    """
    try:
        from amqpjobs.state.status.store import Store
    except ImportError as error:
        raise missing(error) from error
    store = Store(settings)
    try:
        return await store.open()
    except BaseException:
        await store.close()
        raise
