"""``amqpjobs bench`` on a virtual host that others use, too."""

import asyncio
import json
from pathlib import Path

from amqpjobs.broker.embedded import Broker
from amqpjobs.jobs.queue.topology import DELAY_UNROUTABLE, KEPT_FOR_GOOD
from tests.support.amqp import QUORUM, declare, publish, stranger
from tests.support.programs import command, environment


async def test_bench_deletes_what_it_has_made_and_nothing_else(tmp_path: Path):
    """What was delayed for a queue that is gone waits in a queue that all apps share: the jobs in
    it are somebody's. So are queues whose names begin as that of the measurement."""
    async with Broker() as broker:
        queues = broker.virtual_host.queues
        async with stranger(broker.url) as channel:
            for name in ("amqpjobs.bench", "amqpjobs.bench.1"):
                await declare(channel, name)
            await declare(channel, DELAY_UNROUTABLE, {**QUORUM, "x-delivery-limit": KEPT_FOR_GOOD})
            for name in list(queues):
                await publish(channel, name, b"somebody's job")
        before = {name: queue.ready for name, queue in queues.items()}
        assert set(before.values()) == {1}
        env = environment(broker.url, tmp_path)
        ran = await asyncio.to_thread(command, "bench", "--count", "100", "--json", env=env)
        assert ran.returncode == 0, str(ran)
        measured = {row["measurement"] for row in json.loads(ran.stdout)["results"]}
        assert measured >= {"publish, confirmed", "consume, acked"}
        assert {name: queue.ready for name, queue in queues.items()} == before
