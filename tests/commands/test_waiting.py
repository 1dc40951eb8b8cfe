"""A worker that starts before its broker does."""

import asyncio
from pathlib import Path

from amqpjobs.broker.embedded import Broker
from tests.support.brokers.brokers import free_ports
from tests.support.programs import command, environment, running


async def test_a_worker_waits_for_its_broker(tmp_path: Path) -> None:
    """With `--wait`, in the processes of `--processes`, too; SIGTERM ends it meanwhile."""
    port = free_ports(1)[0]
    env = environment(f"amqp://guest:guest@127.0.0.1:{port}/", tmp_path)
    with running("consume", "work", "--wait", "40", "-p", "2", env=env) as worker:
        await asyncio.to_thread(worker.wait_for, "waiting for RabbitMQ", 2)
        async with Broker("4.3", port=port):
            await asyncio.to_thread(worker.wait_for, "worker is ready", 2)
            worker.signal()
            assert await asyncio.to_thread(worker.wait) == 0


def test_a_worker_that_waits_can_be_stopped(tmp_path: Path) -> None:
    """It is not ended by force for that."""
    env = environment(f"amqp://guest:guest@127.0.0.1:{free_ports(1)[0]}/", tmp_path)
    with running("consume", "--wait", "40", env=env) as worker:
        worker.wait_for("waiting for RabbitMQ")
        worker.signal()
        assert worker.wait() == 0


def test_without_it_a_worker_fails_at_once(tmp_path: Path) -> None:
    """As the exit statuses say; and when the time is over."""
    env = environment(f"amqp://guest:guest@127.0.0.1:{free_ports(1)[0]}/", tmp_path)
    at_once = command("consume", env=env)
    assert at_once.returncode == 3
    assert "waiting for RabbitMQ" not in at_once.stdout
    later = command("consume", env=env | {"AMQPJOBS_WAIT": "1"})
    assert later.returncode == 3
    assert "waiting for RabbitMQ" in later.stdout
