"""Who sees to it that a schedule fires once: rows of a shared store, or a queue that one has.

Nothing here imports SQLAlchemy. Changes when an app may tell in another way that its store is
shared.
"""

import importlib.util
from enum import Enum
from typing import TYPE_CHECKING

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.queue.topology import TICKER
from amqpjobs.state.store.engine import missing

if TYPE_CHECKING:
    from amqpjobs.settings import Settings


class Mechanism(Enum):
    """How the schedules of a deployment fire.

    Attributes:
        ROWS: every process looks, and rows decide: exactly once.
        ROWS_AND_QUEUE: the same in a SQLite that may not be the only one: who has the exclusive
            queue looks.
        QUEUE: no store: who has the exclusive queue publishes.
    """

    ROWS = "rows of the store"
    ROWS_AND_QUEUE = "rows of this SQLite, and an exclusive queue"
    QUEUE = "an exclusive queue"


GIVE_A_STORE = (
    "set AMQPJOBS_STORE_URL to a PostgreSQL; or, if all processes of the app run on this machine, "
    "to a SQLite file, and AMQPJOBS_STORE_SHARED=1"
)


def mechanism_of(settings: "Settings") -> Mechanism:
    """How schedules fire with these settings. A store that was not set is shared by nobody."""
    if "store_url" not in settings.model_fields_set:
        return Mechanism.QUEUE
    if not settings.store_url.get_secret_value().startswith("sqlite") or settings.store_shared:
        return Mechanism.ROWS
    return Mechanism.ROWS_AND_QUEUE


def check_store(settings: "Settings", what: str) -> None:
    """See that there is a store for schedules.

    Args:
        what: needs it.

    Raises:
        ConfigurationError: there is none; says how to have one.
    """
    if mechanism_of(settings) is Mechanism.QUEUE:
        raise ConfigurationError(f"{what} is kept in the store, and none is set: {GIVE_A_STORE}")
    if importlib.util.find_spec("sqlalchemy") is None:
        raise missing(ImportError("no module sqlalchemy", name="sqlalchemy"))


def ticker_queue_of(app: str) -> str:
    """The name of the queue that one process has."""
    return TICKER + app
