"""Which queues a worker consumes, and which job a message without a name is for.

Changes when jobs are bound to queues in another way.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from amqpjobs.definition import Definition
from amqpjobs.errors import ConfigurationError
from amqpjobs.rabbitmq.connection import Wire
from amqpjobs.rabbitmq.declaration import Declarer
from amqpjobs.topology import Queue, topology_of

if TYPE_CHECKING:
    from amqpjobs.app import App


def choose(app: "App", names: tuple[str, ...]) -> list[Queue]:
    """The queues of these names; all, if none is given.

    Raises:
        ConfigurationError: there is no such queue, or the app has none at all.
    """
    queues = app.choose_queues(names)
    if not queues:
        raise ConfigurationError(
            f"the app {app.name!r} has no jobs: is the module that declares them imported?"
        )
    return queues


def only_jobs(app: "App") -> dict[str, Definition]:
    """By AMQP queue: the job for messages that name none, where the queue has but one job."""
    jobs: dict[str, list[Definition]] = {}
    for definition in app.jobs.values():
        jobs.setdefault(definition.queue.name, []).append(definition)
    return {
        lane.queue: jobs[queue.name][0]
        for queue in app.queues.values()
        if len(jobs.get(queue.name, ())) == 1
        for lane in queue.lanes
    }


async def ensure(app: "App", queues: Iterable[Queue], wire: Wire) -> None:
    """Declare these queues, or see that they are there.

    Raises:
        TopologyMismatch: one is missing or different.
    """
    topology = topology_of(queues)
    async with Declarer(wire) as declarer:
        if app.settings.declare_topology:
            await declarer.apply(topology)
        else:
            await declarer.require(topology)
