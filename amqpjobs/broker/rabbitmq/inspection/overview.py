"""What waits, what runs, what failed: one row for each AMQP queue. For `queues` and the web tier.

Changes when a column does.
"""

import time
from collections.abc import Mapping
from typing import Any

from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.hold_marker import MarkerNotSeen, look_at_marker
from amqpjobs.broker.rabbitmq.inspection.delayed import counts
from amqpjobs.broker.rabbitmq.inspection.queues import Depth, depths
from amqpjobs.broker.rabbitmq.pause_marks import marked
from amqpjobs.errors import DecodeError, NotPermitted
from amqpjobs.jobs.queue.holds import Hold, read_holds
from amqpjobs.jobs.queue.queue import Queue, lanes_of, put_aside_of
from amqpjobs.jobs.queue.topology import DELAY_UNROUTABLE
from amqpjobs.settings import Settings

DELAYED = "(delayed)"
UNROUTABLE = "(delayed, and its queue is gone)"


async def rows_of(
    queues: Mapping[str, Queue], wire: Wire, settings: Settings
) -> list[dict[str, Any]]:
    """One row for each AMQP queue that jobs wait in; a value that is not known is None.

    Keys: queue, priority, state (``paused``, ``consuming`` or None), ready, unacked, consumers,
    dead and parked (of the whole queue, in the row with its name), exists, singleton; and what an
    operator has set: paused_by, paused_until (seconds since the epoch), rate.
    """
    names = [
        name
        for queue in queues.values()
        for name in (*(lane.queue for lane in lanes_of(queue)), *put_aside_of(queue))
    ]
    found = await depths(wire, [*names, DELAY_UNROUTABLE], settings)
    waiting = sum((await counts(wire)).values())
    paused, holds = await marked(wire, queues), await holds_now(wire)
    rows: list[dict[str, Any]] = []
    for queue in queues.values():
        for lane in lanes_of(queue):
            depth, dead, parked = map(found.get, (lane.queue, queue.dead, queue.parked))
            row: dict[str, Any] = {"queue": lane.queue, "priority": lane.priority}
            hold = holds.get(queue.name, Hold(queue.name))
            row["state"] = _state(depth, paused=queue.name in paused or hold.paused)
            row["ready"] = depth.ready if depth else None
            row["unacked"] = depth.unacked if depth else None
            row["consumers"] = depth.consumers if depth else None
            # Of the whole queue, so shown once, at the lane with its name.
            whole = lane.queue == queue.name
            row["dead"] = dead.ready if dead and whole else None
            row["parked"] = parked.ready if parked and whole else None
            row["exists"] = depth is not None
            row["singleton"] = queue.singleton
            row["paused_by"] = hold.by if hold.paused else None
            row["paused_until"], row["rate"] = hold.until, hold.rate
            rows.append(row)
    # Of the virtual host: the delays belong to no queue.
    if waiting:
        rows.append({"queue": DELAYED, "ready": waiting, "exists": True})
    lost = found[DELAY_UNROUTABLE]
    if lost is not None and lost.ready:
        rows.append({"queue": UNROUTABLE, "ready": lost.ready, "exists": True})
    return rows


async def holds_now(wire: Wire) -> dict[str, Hold]:
    """What operators have set, by queue, as far as this user may see it."""
    try:
        body = await look_at_marker(wire)
        known = {} if body is None else read_holds(body)
    except (NotPermitted, DecodeError, MarkerNotSeen):
        return {}
    now = time.time()
    return {queue: left for queue, hold in known.items() if (left := hold.at(now)) is not None}


def _state(depth: Depth | None, *, paused: bool) -> str | None:
    if paused:
        return "paused"
    return "consuming" if depth is not None and depth.consumers else None
