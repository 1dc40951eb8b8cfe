"""What an operator does with the queues themselves: counts and removes what waits, and pings.

Changes when one of these does.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import BinaryIO

from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection.queues import connected, purge
from amqpjobs.broker.rabbitmq.inspection.scan_channel import HeldDelivery
from amqpjobs.client.deadletters.export import Writer
from amqpjobs.client.deadletters.letter import Letter, Place
from amqpjobs.client.deadletters.report import Moved
from amqpjobs.client.deadletters.traversal import Everything, Way
from amqpjobs.client.fleet_answers import Ping, WorkerInfo
from amqpjobs.jobs.queue.queue import Queue, lanes_of
from amqpjobs.jobs.runtime import Runtime


async def count_ready(runtime: Runtime, queue: Queue) -> int:
    """How many jobs wait in a queue, of all its priorities. See `Fleet.count`."""
    async with connected(runtime.settings, "inspect") as wire:
        return sum((await _waiting(wire, queue)).values())


async def _waiting(wire: Wire, queue: Queue) -> dict[str, int]:
    """How many jobs wait, by AMQP queue. In a queue that nobody has declared yet, none does."""
    async with Declarer(wire) as declarer:
        found = await declarer.look_at_all(lane.queue for lane in lanes_of(queue))
    return {name: answer.message_count or 0 for name, answer in found.items() if answer is not None}


async def purge_queue(runtime: Runtime, queue: Queue, export: BinaryIO | None) -> Moved:
    """Remove what waits. See `Fleet.purge`."""
    moved = Moved()
    async with connected(runtime.settings, "purge") as wire:
        lanes = list(await _waiting(wire, queue))
        if export is None:
            for lane in lanes:
                removed = await purge(wire, lane)
                moved.done += removed
                moved.targets[lane] += removed
            return moved
        writer = Writer(export, remove=True, moved=moved)

        async def write(letter: Letter, delivery: HeldDelivery) -> bool:
            return await writer.write(letter, delivery)

        places = [Place("dead", lane, queue.name) for lane in lanes]
        way = Way(wire, places, frozenset(lanes), finish=writer.settle)
        await way.go(Everything(), moved, write)
    return moved


async def ping_of(runtime: Runtime, workers: Sequence[WorkerInfo]) -> Ping:
    """The broker's answer, and which consumers are no worker that answered. See `Fleet.ping`."""
    clock = asyncio.get_running_loop().time
    queues = runtime.registry.queues.values()
    lanes = [lane.queue for queue in queues for lane in lanes_of(queue)]
    answered = Counter(
        queue for each in workers for queue, state in each.queues.items() if state == "consuming"
    )
    async with connected(runtime.settings, "ping") as wire, Declarer(wire) as declarer:
        begun = clock()
        found = await declarer.look_at_all(lanes[:1])
        seconds = clock() - begun
        found |= await declarer.look_at_all(lanes[1:])
    consumers = {
        name: (answer.consumer_count or 0) if answer else 0 for name, answer in found.items()
    }
    silent = {name: count - answered[name] for name, count in consumers.items()}
    return Ping(
        wire.profile.text,
        seconds,
        tuple(workers),
        {name: count for name, count in silent.items() if count > 0},
    )
