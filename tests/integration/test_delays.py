"""Delays on real brokers: never early, hardly late, and never lost."""

import json
import time
from datetime import UTC, datetime, timedelta

import aio_pika
import pytest

from amqpjobs import Context, Queue
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection.queues import connected, delete_queues
from amqpjobs.errors import TopologyMismatch
from amqpjobs.jobs.durations import LONGEST_DELAY
from amqpjobs.jobs.queue.delays import level_name, wait_route
from amqpjobs.jobs.queue.queue import LEVELS
from amqpjobs.jobs.queue.topology import DELAY_UNROUTABLE
from tests.support.amqp import count, delete_queue, drain, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import command, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working

LATE = 1.0
"""Seconds that a job may be late on a busy test machine."""


async def test_jobs_start_when_they_are_due(broker: VirtualHost) -> None:
    """Fractions of seconds too; of several queues, whose names are parts of each other."""
    app = app_at(broker.url)
    started: dict[float, float] = {}

    @app.job(queue=Queue("mails", priorities={"high": 2, "low": 1}))
    async def mail(delay: float) -> None:
        started[delay] = time.time()

    @app.job(queue="low")
    async def low(delay: float) -> None:
        started[delay] = time.time()

    dues: dict[float, float] = {}
    async with working(app):
        for delay in (0.3, 1, 1.5, 2.2, 3, 4.9):
            dues[delay] = time.time() + delay
            await mail.with_options(delay=delay, priority="high").later(delay)
        dues[3.5] = time.time() + 3.5
        await low.with_options(delay=timedelta(seconds=3.5)).later(3.5)
        dues[2.5] = time.time() + 2.5
        at = datetime.fromtimestamp(dues[2.5], UTC)
        await mail.with_options(at=at).later(2.5)
        many = [mail.with_options(delay=2).message(2 + n / 1000) for n in range(1, 51)]
        dues |= {2 + n / 1000: time.time() + 2 for n in range(1, 51)}
        await app.later_many(many)
        await until(lambda: len(started) == len(dues), "all were started")
    early = {d: dues[d] - at for d, at in started.items() if at < dues[d]}
    late = {d: at - dues[d] for d, at in started.items() if at > dues[d] + LATE}
    assert (early, late) == ({}, {})
    assert await left_in(broker, "mails", "mails.high", "low", DELAY_UNROUTABLE) == 0


async def test_a_delayed_job_survives_that_nobody_is_there(broker: VirtualHost) -> None:
    """Neither its publisher nor a worker: it waits on the broker, on disk."""
    app = app_at(broker.url)
    ran: list[int] = []

    @app.job(queue="work")
    async def job(ctx: Context, n: int) -> None:
        ran.append(ctx.attempt)

    async with app.lifespan():
        await job.with_options(delay=1).later(1)
    async with stranger(broker.url) as channel:

        async def arrived() -> bool:
            return await count(channel, "work") == 1

        await until(arrived, "it is in its queue")
    async with working(app):
        await until(lambda: ran == [1], "it ran")


async def test_every_level_of_the_ladder_can_be_made(broker: VirtualHost) -> None:
    """Eight years are below what RabbitMQ takes for a time to live."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(n: int) -> None: ...

    async with app.lifespan():
        await job.with_options(delay=LONGEST_DELAY).later(1)
    async with stranger(broker.url) as channel:
        assert await count(channel, level_name(LEVELS - 1)) == 1


async def test_levels_are_made_when_they_are_needed(broker: VirtualHost) -> None:
    """A minute needs six of twenty-eight; and they come back when somebody has deleted them."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(n: int) -> None: ...

    async with app.lifespan():
        await job.with_options(delay=60).later(1)
        async with connected(app.settings, "test") as wire:
            async with Declarer(wire) as declarer:
                await declarer.look(level_name(5))
                with pytest.raises(TopologyMismatch):
                    await declarer.look(level_name(6))
            await delete_queues(wire, [level_name(n) for n in range(6)])
    async with app.lifespan():
        await job.with_options(delay=60).later(2)
    async with stranger(broker.url) as channel:
        assert await count(channel, level_name(5)) == 1


async def test_without_permission_to_make_levels_the_error_names_the_fix(
    broker: VirtualHost,
) -> None:
    """Nothing is said to be sent."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(n: int) -> None: ...

    async with app.lifespan():
        pass
    checked = app_at(broker.url, declare_topology=False)

    @checked.job(queue="work", name="job")
    async def same(n: int) -> None: ...

    async with checked.lifespan():
        with pytest.raises(TopologyMismatch, match="--longest-delay 7"):
            await same.with_options(delay=5).later(1)


def test_topology_apply_makes_the_levels_that_are_asked_for(broker: VirtualHost, tmp_path) -> None:
    """For workers that may not declare: two minutes are seven levels."""
    env = environment(broker.url, tmp_path)
    assert command("topology", "apply", "--longest-delay", "120", env=env).returncode == 0
    rows = json.loads(
        command("topology", "show", "--longest-delay", "120", "--json", env=env).stdout
    )
    levels = [
        r["name"] for r in rows if r["kind"] == "queue" and r["name"].startswith("amqpjobs.d")
    ]
    assert levels == [DELAY_UNROUTABLE, *(level_name(n) for n in range(7))]
    undeclared = {**env, "AMQPJOBS_DECLARE": "false"}
    enqueue = ("enqueue", "quick", "--args", "1", "--delay")
    assert command(*enqueue, "100", env=undeclared).returncode == 0
    refused = command(*enqueue, "200", env=undeclared)
    assert refused.returncode == 1
    assert "--longest-delay 255" in refused.stderr


async def test_a_job_whose_queue_is_gone_is_kept(broker: VirtualHost) -> None:
    """In a queue of its own, where `doctor` and `queues` show it."""
    app = app_at(broker.url)

    @app.job(queue="gone")
    async def job(n: int) -> None: ...

    async with app.lifespan():
        handle = await job.with_options(delay=1).later(1)
        delete_queue(broker, "gone")
        async with stranger(broker.url) as channel:

            async def caught() -> bool:
                return await count(channel, DELAY_UNROUTABLE) == 1

            await until(caught, "it is caught")
    [message] = await drain(broker.url, DELAY_UNROUTABLE)
    assert message.message_id == handle.id


async def test_a_stranger_may_delay_a_job_too(broker: VirtualHost) -> None:
    """The ladder is plain AMQP: an exchange and a routing key."""
    app = app_at(broker.url)
    ran: list[float] = []

    @app.job(queue="work")
    async def job(n: int) -> None:
        ran.append(time.time())

    async with working(app):
        await job.with_options(delay=2).later(1)
        async with stranger(broker.url) as channel:
            name, key = wait_route(2, "work")
            exchange = await channel.get_exchange(name)
            sent = time.time()
            await exchange.publish(aio_pika.Message(b"2", type="job"), routing_key=key)
        await until(lambda: len(ran) == 2, "both ran")
    assert sent + 2 <= max(ran) <= sent + 2 + LATE


def test_what_waits_can_be_listed(broker: VirtualHost, tmp_path) -> None:
    """By queue and level, and each job; looking takes nothing out, and delays nothing for long."""
    env = environment(broker.url, tmp_path)
    for n in range(3):
        done = command("enqueue", "quick", "--args", f"{n}", "--delay", "3600", env=env)
        assert done.returncode == 0, done.stderr
    assert command("enqueue", "quick", "--args", "9", "--delay", "2", env=env).returncode == 0
    listed = json.loads(command("delayed", "list", "--json", env=env).stdout)
    rows = {(row["queue"], row["level"]): row for row in listed}
    assert rows["work", 11]["waiting"] == 3
    due = datetime.fromisoformat(rows["work", 11]["first_due"]).timestamp()
    assert due == pytest.approx(time.time() + 3600, abs=60)
    jobs = json.loads(command("delayed", "list", "--jobs", "--json", env=env).stdout)
    hour = [row for row in jobs if row["level"] == 11]
    assert {(row["job"], row["attempt"]) for row in hour} == {("quick", 1)}
    assert len({row["id"] for row in hour}) == 3
    queues = json.loads(command("queues", "--json", env=env).stdout)
    assert {"(delayed)"} == {row["queue"] for row in queues if row["queue"].startswith("(")}


async def left_in(broker: VirtualHost, *queues: str) -> int:
    """Messages that are ready in these queues."""
    async with stranger(broker.url) as channel:
        return sum([await count(channel, queue) for queue in queues])
