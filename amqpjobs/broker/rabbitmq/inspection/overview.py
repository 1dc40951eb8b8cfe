"""What waits, what runs, what failed: one row for each AMQP queue. For `queues` and the web tier.

Changes when a column does.
"""

from collections.abc import Mapping
from typing import Any

from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.inspection.delayed import counts
from amqpjobs.broker.rabbitmq.inspection.queues import Depth, depths
from amqpjobs.broker.rabbitmq.pause_marks import marked
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.queue.topology import DELAY_UNROUTABLE
from amqpjobs.settings import Settings

DELAYED = "(delayed)"
UNROUTABLE = "(delayed, and its queue is gone)"


async def rows_of(
    queues: Mapping[str, Queue], wire: Wire, settings: Settings
) -> list[dict[str, Any]]:
    """One row for each AMQP queue that jobs wait in; a value that is not known is None.

    Keys: queue, priority, state (``paused``, ``consuming`` or None), ready, unacked, consumers,
    dead and parked (of the whole queue, in the row with its name), exists.
    """
    names = [
        name
        for queue in queues.values()
        for name in (*(lane.queue for lane in queue.lanes), queue.dead, queue.parked)
    ]
    found = await depths(wire, [*names, DELAY_UNROUTABLE], settings)
    waiting = sum((await counts(wire)).values())
    paused = await marked(wire, queues)
    rows: list[dict[str, Any]] = []
    for queue in queues.values():
        for lane in queue.lanes:
            depth, dead, parked = found[lane.queue], found[queue.dead], found[queue.parked]
            row: dict[str, Any] = {"queue": lane.queue, "priority": lane.priority}
            row["state"] = _state(depth, paused=queue.name in paused)
            row["ready"] = depth.ready if depth else None
            row["unacked"] = depth.unacked if depth else None
            row["consumers"] = depth.consumers if depth else None
            # Of the whole queue, so shown once, at the lane with its name.
            whole = lane.queue == queue.name
            row["dead"] = dead.ready if dead and whole else None
            row["parked"] = parked.ready if parked and whole else None
            row["exists"] = depth is not None
            rows.append(row)
    # Of the virtual host: the delays belong to no queue.
    if waiting:
        rows.append({"queue": DELAYED, "ready": waiting, "exists": True})
    lost = found[DELAY_UNROUTABLE]
    if lost is not None and lost.ready:
        rows.append({"queue": UNROUTABLE, "ready": lost.ready, "exists": True})
    return rows


def _state(depth: Depth | None, *, paused: bool) -> str | None:
    if paused:
        return "paused"
    return "consuming" if depth is not None and depth.consumers else None
