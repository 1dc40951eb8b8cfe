"""What the doctor says of a cluster: its nodes, and the replicas of each quorum queue.

Changes when a cluster is checked for something else.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from amqpjobs.cli.doctor.check import Check
from amqpjobs.client.client import registry_of

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.broker.rabbitmq.inspection.management_api import Replicas

USUAL = 3
"""Replicas of a quorum queue where there are as many nodes; RabbitMQ's default."""


def cluster(app: "App") -> list[Check]:
    """The nodes that RabbitMQ has, and where our queues are."""
    from amqpjobs.broker.rabbitmq.inspection.management_api import (
        NotAnswered,
        nodes_of_cluster,
        replicas,
    )

    try:
        queues = replicas(app.settings)
    except NotAnswered as error:
        finding = "the management API does not answer, so replicas are not known"
        return [Check("cluster", "warning", finding, str(error))]
    ours = {declaration.name for declaration in registry_of(app).topology.queues}
    found = [queue for queue in queues if queue.queue in ours]
    try:
        nodes = nodes_of_cluster(app.settings)
    except NotAnswered:
        finding = "this user may not see the nodes, so only replicas are checked"
        fix = "`rabbitmqctl set_user_tags USER monitoring` lets it look"
        return [Check("cluster", "ok", f"{finding}: {fix}"), *replicas_of(found, None)]
    return [*nodes_of(nodes), *replicas_of(found, len(nodes))]


def nodes_of(nodes: Mapping[str, bool]) -> Iterator[Check]:
    """How many there are, and which are down."""
    down = sorted(name for name, running in nodes.items() if not running)
    if down:
        finding = f"{len(nodes)} nodes, of which {len(down)} do not run: {', '.join(down)}"
        fix = "start them, or remove those that are gone: `rabbitmqctl forget_cluster_node NODE`"
        yield Check("cluster", "warning", finding, fix)
    elif len(nodes) == 1:
        yield Check("cluster", "ok", "1 node: each queue has 1 replica")
    else:
        yield Check("cluster", "ok", f"{len(nodes)} nodes, all run")


def replicas_of(queues: "Iterable[Replicas]", nodes: int | None) -> Iterator[Check]:
    """Of each quorum queue: how many, how many are online, and who leads.

    Args:
        nodes: of the cluster; None if that is not known. Nothing is said where there is one node,
            or one replica and an unknown number of nodes.
    """
    for queue in queues:
        if (nodes or queue.members) == 1:
            continue
        of = "" if nodes is None else f" in {nodes} nodes"
        found = (
            f"{queue.members} {'replica' if queue.members == 1 else 'replicas'}{of}, "
            f"{queue.online} online, leader {queue.leader or 'none'}"
        )
        name, most = f"replicas of {queue.queue!r}", min(nodes or queue.members, USUAL)
        if queue.members < most:
            fix = (
                f"`rabbitmq-queues grow NODE all` for each node until it has {most}; queues that "
                "are declared while all nodes run have them from the start"
            )
            yield Check(name, "warning", found, fix)
        elif queue.online <= queue.majority and queue.members > 1:
            fix = (
                f"start the nodes that are down: it works with {queue.majority} of {queue.members} "
                "online, and stops when one more goes"
            )
            yield Check(name, "warning", found, fix)
        else:
            yield Check(name, "ok", found)
