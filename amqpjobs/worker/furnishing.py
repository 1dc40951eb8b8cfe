"""What jobs find around them in a worker, as variables of the context that each starts in.

Changes when a job may ask for something else.
"""

from contextvars import Context as Variables

from amqpjobs.client.nested_requests import NestedRequests, nested_requests
from amqpjobs.jobs.once import transactions
from amqpjobs.jobs.runtime import Runtime
from amqpjobs.jobs.surroundings import Surroundings, surroundings
from amqpjobs.state.working import WorkersMemory


def furnish(
    home: Variables, runtime: Runtime, nested: NestedRequests, memory: WorkersMemory
) -> None:
    """Set these variables in the context of which each job gets a copy."""
    registry = runtime.registry
    here = Surroundings(registry.jobs, runtime.clock.time, app=registry.enqueuer)
    home.run(nested_requests.set, nested)
    home.run(surroundings.set, here)
    home.run(transactions.set, memory.once)
