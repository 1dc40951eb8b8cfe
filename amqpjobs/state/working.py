"""What a worker has of the store: who looks after it, and what runs jobs in transactions.

Nothing of SQLAlchemy is imported for an app that needs none of it. Changes when a worker has
another part there.
"""

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from amqpjobs.errors import AmqpJobsError
from amqpjobs.state.memory import Memory, memory_of
from amqpjobs.state.needs import housekeeping_of, uses_store
from amqpjobs.state.schedules.mechanism import Mechanism, mechanism_of

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.state.housekeeping import Housekeeping
    from amqpjobs.state.inbox.transactions import InTransactions
    from amqpjobs.state.limits.turns import Turns
    from amqpjobs.state.schedules.ended import EndedTicks

log = logging.getLogger("amqpjobs.outbox")


class WorkersMemory(NamedTuple):
    """The parts of one worker.

    Attributes:
        housekeeping: looks after the store in this process; None where nothing does.
        once: runs the handlers of ``once=``; None where there are none.
        turns: takes slots and claims for jobs; None where no job has any.
        memory: of the app; None where it has no use for it.
        ended: is told of jobs of schedules that have ended; None where no store knows schedules.
        durable: where durable jobs are; None where nothing can be stored.
    """

    housekeeping: "Housekeeping | None" = None
    once: "InTransactions | None" = None
    turns: "Turns | None" = None
    memory: "Memory | None" = None
    ended: "EndedTicks | None" = None
    durable: "Memory | None" = None

    @property
    def beside(self) -> str | None:
        """What is wrong with the housekeeping, on one line; None if nothing is."""
        return None if self.housekeeping is None else self.housekeeping.beside

    async def send(self) -> int:
        """Send all that is in the outbox.

        Returns:
            How many messages were sent in all, by anybody here.
        """
        if self.memory is None:
            return 0
        try:
            while await self.memory.send():
                pass
        except AmqpJobsError as error:
            log.warning("outbox not sent, will be later", extra={"error": str(error)})
        return self.memory.relay.sent

    async def check(self) -> None:
        """See that what jobs need is there. A database that is away is waited for later, by jobs.

        Raises:
            ConfigurationError: it is not, or cannot be used; says how to fix it.
        """
        if self.once is not None:
            await self.once.check()

    async def finish(self, seconds: float) -> None:
        """The worker stops: let the store be told what it is to know, for so long at most."""
        if self.ended is not None:
            await self.ended.finish(seconds)


NO_MEMORY = WorkersMemory()


def memory_for_worker(client: "Client") -> WorkersMemory:
    """What a worker of this app has of the store.

    Raises:
        ConfigurationError: the extra ``sql`` is missing, and the app needs it.
    """
    once = turns = None
    jobs = client.runtime.registry.jobs.values()
    if any(job.exclusion is not None for job in jobs):
        from amqpjobs.state.limits.turns import Turns

        turns = Turns(memory_of(client))
    if client.runtime.registry.transactional:
        from amqpjobs.state.store.engine import missing

        try:
            from amqpjobs.state.inbox.transactions import InTransactions
        except ImportError as error:
            raise missing(error) from error
        once = InTransactions(memory_of(client))
    housekeeping, ended = housekeeping_of(client), _ended_of(client)
    known = client.memory
    stored = isinstance(known, Memory) and (known.used or uses_store(client))
    memory = memory_of(client) if stored or turns is not None else None
    durable = memory_of(client) if find_spec("sqlalchemy") is not None else None
    return WorkersMemory(housekeeping, once, turns, memory, ended, durable)


def _ended_of(client: "Client") -> "EndedTicks | None":
    settings = client.runtime.settings
    if mechanism_of(settings) is Mechanism.QUEUE or find_spec("sqlalchemy") is None:
        return None
    return memory_of(client).ended
