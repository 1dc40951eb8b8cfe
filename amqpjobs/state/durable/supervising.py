"""Supervises silent jobs: those that durable jobs wait for, and durable jobs that were woken.

Changes when a lost message is detected in another way.
"""

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection.queues import connected
from amqpjobs.jobs.queue.queue import keeps_failed, lanes_of
from amqpjobs.state.durable.cancelling import cancel
from amqpjobs.state.durable.silent import LOST, Silent, next_silent, put_off, send_silent
from amqpjobs.state.durable.silent import silent_jobs as look
from amqpjobs.state.durable.silent_chunks import (
    next_silent_chunk,
    put_off_chunk,
    send_chunk,
    silent_chunks,
)

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

log = logging.getLogger("amqpjobs.durable")

AT_ONCE = 100
"""Jobs that one turn looks at, of each kind."""


class Supervises:
    """Sends jobs again that had no sign of life for `AMQPJOBS_SILENT_AFTER`, and gives them up
    after several attempts.

    A message that may still wait in its queue is not sent again.

    Args:
        memory: whose.
    """

    name = "silent jobs"
    pause = 30.0
    nudged = False

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory
        self._seconds = memory.client.runtime.settings.silent_after

    async def turn(self) -> bool:
        """Some of them."""
        memory, seconds = self._memory, self._seconds
        store = await memory.store()
        found = await store.run(look, memory.app, store.now, seconds, AT_ONCE)
        found += await store.run(silent_chunks, memory.app, store.now, seconds, AT_ONCE)
        if not found:
            return False
        full = await self._not_empty({each.routing_key for each in found})
        wait = [each for each in found if each.routing_key in full]
        if jobs := [each for each in wait if each.part != "chunk"]:
            await store.run(put_off, jobs, store.now)
        for each in wait:
            if each.part == "chunk":
                await store.run(put_off_chunk, each, store.now)
        for each in found:
            if each.routing_key not in full:
                await self._send(each)
        memory.nudge()
        return True

    async def _send(self, silent: Silent) -> None:
        store = await self._memory.store()
        send = send_chunk if silent.part == "chunk" else send_silent
        told = await store.run(send, silent, store.now, self._seconds)
        if told is None:
            return
        keys = {"job_id": silent.owner.job_id, "part": silent.part, "queue": silent.routing_key}
        if silent.step is not None:
            keys["step"] = silent.step
        if told.state == LOST:
            log.error("silent job given up", extra=keys)
        else:
            log.warning("silent job sent again", extra=keys)
        for job_id in told.orphans:
            # A job that was given up has failed: its steps are undone.
            await cancel(self._memory, job_id, "it had no sign of life", undo=True)

    async def _not_empty(self, routing_keys: Collection[str]) -> set[str]:
        """The queues in which, or beside which, jobs wait."""
        runtime = self._memory.client.runtime
        beside = {
            lane.queue: queue.parked
            for queue in runtime.registry.queues.values()
            for lane in lanes_of(queue)
            if keeps_failed(queue)
        }
        names = {*routing_keys, *(beside[key] for key in routing_keys if key in beside)}
        async with connected(runtime.settings, "inspect") as wire, Declarer(wire) as declarer:
            answers = await declarer.look_at_all(sorted(names))
        waits = {
            name for name, answer in answers.items() if answer is not None and answer.message_count
        }
        return {key for key in routing_keys if key in waits or beside.get(key) in waits}

    async def next_at(self) -> float | None:
        """When the next one will have been silent for long enough."""
        store = await self._memory.store()
        args = self._memory.app, store.now, self._seconds
        times = await store.run(next_silent, *args), await store.run(next_silent_chunk, *args)
        return min((each for each in times if each is not None), default=None)
