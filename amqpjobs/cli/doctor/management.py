"""What the doctor asks of RabbitMQ's management API. Changes when there is more to check there."""

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from amqpjobs.cli.doctor.check import Check
from amqpjobs.client.client import registry_of
from amqpjobs.jobs.queue.queue import lanes_of

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.broker.rabbitmq.inspection.management_api import Held

LONG_WAIT = 10.0
"""Seconds until the last of what a worker holds is started, from which on it holds too much."""


def management(app: "App") -> list[Check]:
    """Whether it answers, and what it tells of queues and prefetch."""
    from amqpjobs.broker.rabbitmq.inspection.management_api import (
        NotAnswered,
        address_of,
        held_by_workers,
        queues_without_leader,
        unacked,
    )

    try:
        unacked(app.settings)
        held = held_by_workers(app.settings)
        down = queues_without_leader(app.settings)
    except NotAnswered as error:
        finding = "it does not tell what is unacked, which `queues` leaves out"
        return [Check("management API", "warning", finding, str(error))]
    answers = Check("management API", "ok", f"answers at {address_of(app.settings)}")
    return [answers, *_down(app, down), *waiting_in_workers(app, held)]


def _down(app: "App", names: "Iterable[str]") -> Iterator[Check]:
    """Quorum queues without a leader: nothing can be published to them or consumed."""
    ours = {declaration.name for declaration in registry_of(app).topology.queues}
    for name in names:
        if name in ours:
            yield Check(
                f"queue {name!r}",
                "error",
                "down: it has no leader",
                "start the nodes of its members; if it is down although they run, restart the node "
                "(rabbitmq-server#16652)",
            )


def waiting_in_workers(app: "App", held: "Iterable[Held]") -> Iterator[Check]:
    """Deliveries that wait in a worker behind long jobs, where no idle worker can take them."""
    ours = {lane.queue for queue in app.queues.values() for lane in lanes_of(queue)}
    for each in held:
        seconds = each.waiting / each.acks if each.acks else math.inf
        if each.queue not in ours or not each.waiting or seconds < LONG_WAIT:
            continue
        pace = f"{each.acks:.2g} jobs a second" if each.acks else "no job in the last seconds"
        yield Check(
            f"prefetch of {each.queue!r}",
            "warning",
            f"{each.waiting} of {each.unacked} deliveries wait in a worker with concurrency "
            f"{each.concurrency} and prefetch {each.prefetch}, which ends {pace}: no other worker "
            "can take them",
            f"--prefetch {each.concurrency}, as many as run at once",
        )
