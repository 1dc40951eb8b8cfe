"""F10, F11 and F30: the broker raises an alarm; something is scarce when a worker starts."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from amqpjobs.errors import NotConfirmed
from amqpjobs.telemetry.health.heartbeat_file import state_of
from tests.faults.fleet import ROOT, Fleet, WorkerProcess, until
from tests.faults.hostile import properties
from tests.faults.ledger import Ledger
from tests.faults.publishing import finish, leftovers, publishing
from tests.faults.stranger import Stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker

C, P = 4, 8

JOBS = 200
"""Of 0.2 s each, and none ends before the alarm is raised, however slow the machine is."""


def end_alarms(broker: Broker) -> None:
    broker.ctl("set_vm_memory_high_watermark", "0.4")
    broker.ctl("set_disk_free_limit", "50MB")


@pytest.fixture
def alarming(own_broker: Broker) -> Iterator[Broker]:
    """A broker whose alarms are over when the test is."""
    yield own_broker
    end_alarms(own_broker)


async def check_alarm(
    broker: Broker, workers: Fleet, ledger: Ledger, raised: float, *alarm: str
) -> None:
    async with publishing(broker.url, ledger, publish_timeout=2) as publisher:
        heartbeat = ledger.folder / "heartbeat"
        worker = await workers.start(
            broker.url, "work", concurrency=C, prefetch=P, AMQPJOBS_HEARTBEAT_FILE=heartbeat
        )
        work, item = publisher.jobs.work, publisher.jobs.item
        gate = ledger.folder / "gate"
        half = [work.message(n, 0.2, gate) for n in range(JOBS // 2)]
        assert await publisher.send_many(half) == []
        with Stranger(broker.url) as stranger:
            # One that has to be dead-lettered while nothing can be published.
            given = properties(type="item", message_id="dead", delivery_mode=2)
            stranger.publish("work", b"not JSON", given)
        half = [work.message(n, 0.2, gate) for n in range(JOBS // 2)]
        assert await publisher.send_many(half) == []
        await asyncio.to_thread(broker.ctl, *alarm)
        ledger.fault(" ".join(alarm))
        errors = []

        async def refused() -> bool:
            error = await publisher.send(item.message({"number": 1, "text": "x"}))
            if error is not None:
                errors.append(error)
            return error is not None

        while not await refused():
            await asyncio.sleep(0.1)
        assert not ledger.done()
        gate.touch()
        await until(ledger.done, 10, "consumers go on")
        await until(lambda: state_of(heartbeat).startswith("blocked: low on "), 20, "it says so")
        await until(lambda: worker.events("not healthy"), 5, "the log says it, too")
        assert await health(heartbeat) == 0
        assert await health(heartbeat, "--strict") == 1
        for _ in range(int(raised / 2)):
            assert await refused()
        assert all(isinstance(e, NotConfirmed) for e in errors)
        # Those that waited for the end of the alarm were never sent, and say so.
        assert all(not e.sent for e in errors[1:])
        await until(lambda: len(ledger.done()) >= JOBS, 60, "consumers keep acking")
        assert worker.running
        await asyncio.to_thread(end_alarms, broker)
        ledger.tell("alarm over")
        took = 0.0
        while await publisher.send(work.message(-1)) is not None:
            took += 1
            assert took < 10
        await publisher.all_done(30)
        await until(lambda: state_of(heartbeat) == "ok", 5, "it says that it is over")
        with Stranger(broker.url) as stranger:
            await until(lambda s=stranger: s.ready("work.dead") == 1, 30, "it is dead-lettered")
            assert [body for _, body in stranger.drain("work.dead")] == [b"not JSON"]
        await finish(broker.url, workers, ledger)
    ledger.check(duplicates=0)
    assert not leftovers(broker.url)
    assert not workers.trouble()


async def health(file: Path, *options: str) -> int:
    """The exit status of `amqpjobs health`."""
    command = (sys.executable, "-m", "amqpjobs", "health", "--file", str(file), *options)
    program = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT
    )
    said, _ = await asyncio.wait_for(program.communicate(), 30)
    assert b"healthy: blocked: low on " in said
    return program.returncode or 0


MEMORY = ("set_vm_memory_high_watermark", "0.00001")
DISK = ("set_disk_free_limit", "1000000GB")


@pytest.mark.row("F10")
@pytest.mark.timeout(240)
async def test_a_memory_alarm_stops_publishers_only(
    alarming: Broker, workers: Fleet, ledger: Ledger
) -> None:
    """Consumers keep acking; publishers wait up to their timeout, and fail with its type; health
    says that they are blocked, which no restart would fix. A copy that was sent into the alarm is
    there once when it is over, not once for every time that its confirm was waited for."""
    await check_alarm(alarming, workers, ledger, 12, *MEMORY)


@pytest.mark.row("F11")
@pytest.mark.timeout(240)
async def test_a_disk_alarm_stops_publishers_only(
    alarming: Broker, workers: Fleet, ledger: Ledger
) -> None:
    """The same."""
    await check_alarm(alarming, workers, ledger, 4, *DISK)


@pytest.mark.row("F10")
@pytest.mark.faults_full
@pytest.mark.timeout(600)
async def test_a_memory_alarm_for_a_minute(
    alarming: Broker, workers: Fleet, ledger: Ledger
) -> None:
    """The full form."""
    await check_alarm(alarming, workers, ledger, 60, *MEMORY)


@pytest.mark.row("F11")
@pytest.mark.faults_full
@pytest.mark.timeout(600)
async def test_a_disk_alarm_for_a_minute(alarming: Broker, workers: Fleet, ledger: Ledger) -> None:
    """The full form."""
    await check_alarm(alarming, workers, ledger, 60, *DISK)


async def refusal(worker: WorkerProcess, status: int, timeout: float = 30.0) -> str:
    """The one line with which a worker refuses to start."""
    assert await worker.ended(timeout) == status, worker.tail()
    said = [line["text"] for line in worker.lines() if "text" in line]
    assert len(said) == 1, worker.tail()
    assert said[0].startswith("amqpjobs: ")
    return str(said[0])


@pytest.mark.row("F30")
async def test_few_file_descriptors_are_enough_or_said(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """64 file descriptors are enough to work."""
    limited = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
    async with publishing(broker.url, ledger) as publisher:
        await workers.start(broker.url, "work", prefix=limited)
        assert await publisher.send_many(publisher.jobs.work.message(n) for n in range(200)) == []
        await publisher.all_done(20)
    await workers.stop()
    ledger.check(duplicates=0)


@pytest.mark.row("F30")
@pytest.mark.timeout(240)
async def test_too_few_channels_are_said_at_start(
    own_broker: Broker, workers: Fleet, ledger: Ledger
) -> None:
    """A broker that allows two channels a connection, and three queues: one line, status 2."""
    own_broker.ctl("eval", "application:set_env(rabbit, channel_max, 2).")
    try:
        worker = workers.launch(own_broker.url)
        assert "channel_max" in await refusal(worker, 2)
        assert len(list(worker.lines())) < 30
    finally:
        own_broker.ctl("eval", "application:set_env(rabbit, channel_max, 2047).")


@pytest.mark.row("F30")
async def test_no_permission_to_declare_is_said_at_start(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """Without the topology: one line that names the fix. With it: it works."""
    server, name = broker.server, f"user-{broker.name}"
    server.add_user(name, "secret")
    server.set_permissions(name, broker.name, configure="^$")
    url = broker.url.replace("guest:guest", f"{name}:secret")
    try:
        said = await refusal(workers.launch(url), 1)
        assert "topology apply" in said
        async with publishing(broker.url, ledger) as publisher:
            await workers.start(url, "work")
            assert await publisher.send(publisher.jobs.work.message(1)) is None
            await publisher.all_done(20)
        await workers.stop()
        ledger.check(duplicates=0)
    finally:
        server.delete_user(name)
