"""What a worker has of the store: who looks after it, and what runs jobs in transactions.

Nothing of SQLAlchemy is imported for an app that needs none of it. Changes when a worker has
another part there.
"""

from typing import TYPE_CHECKING, NamedTuple

from amqpjobs.state.needs import housekeeping_of

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.state.housekeeping import Housekeeping
    from amqpjobs.state.inbox.transactions import InTransactions
    from amqpjobs.state.limits.turns import Turns


class WorkersMemory(NamedTuple):
    """The parts of one worker.

    Attributes:
        housekeeping: looks after the store in this process; None where nothing does.
        once: runs the handlers of ``once=``; None where there are none.
        turns: takes slots and claims for jobs; None where no job has any.
    """

    housekeeping: "Housekeeping | None" = None
    once: "InTransactions | None" = None
    turns: "Turns | None" = None

    async def check(self) -> None:
        """See that what jobs need is there. A database that is away is waited for later, by jobs.

        Raises:
            ConfigurationError: it is not, or cannot be used; says how to fix it.
        """
        if self.once is not None:
            await self.once.check()


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
        from amqpjobs.state.memory import memory_of

        turns = Turns(memory_of(client))
    if client.runtime.registry.transactional:
        from amqpjobs.state.store.engine import missing

        try:
            from amqpjobs.state.inbox.transactions import InTransactions
            from amqpjobs.state.memory import memory_of
        except ImportError as error:
            raise missing(error) from error
        once = InTransactions(memory_of(client))
    return WorkersMemory(housekeeping_of(client), once, turns)
