"""Jobs that run at most once, on real brokers: acked before they run, and never run again."""

import asyncio
import signal
from pathlib import Path

from amqpjobs import Context, Queue, Retry
from tests.support.amqp import close_connections, count, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import Ledger, command, consuming, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working


async def test_it_is_acked_while_it_runs_and_a_stop_makes_a_dead_letter(
    broker: VirtualHost,
) -> None:
    """It is cancelled, as others are; it does not go back to its queue."""
    app = app_at(broker.url, shutdown_timeout=1)
    began: list[int] = []

    @app.job(queue="work", at_most_once=True)
    async def job(ctx: Context, n: int) -> None:
        began.append(n)
        await asyncio.Event().wait()

    async with stranger(broker.url) as channel:
        async with working(app):
            await job.later(1)
            await until(lambda: began, "it runs")
        assert await count(channel, "work") == 0
        assert await count(channel, "work.dead") == 1
        async with working(app):
            await job.later(2)
            await until(lambda: len(began) == 2, "the other runs")
    assert began == [1, 2]
    letters = (await app.dead_letters("work").look()).letters
    assert [each.failure and each.failure.reason for each in letters] == ["interrupted"] * 2


async def test_a_failure_is_a_dead_letter_though_the_connection_was_lost(
    broker: VirtualHost,
) -> None:
    """There is no original that could come again."""
    app = app_at(broker.url)
    began, go = asyncio.Event(), asyncio.Event()
    runs: list[int] = []

    @app.job(queue="work", at_most_once=True, retry=Retry(attempts=1))
    async def job(ctx: Context, n: int) -> None:
        runs.append(n)
        began.set()
        await go.wait()
        raise ValueError

    async with stranger(broker.url) as channel:
        async with working(app):
            await job.later(1)
            await began.wait()
            closed = lambda: close_connections(broker, "consume")  # noqa: E731
            await until(closed, "the connection is closed")
            go.set()

            async def died() -> bool:
                return await count(channel, "work.dead") == 1

            await until(died, "it is dead")
        assert await count(channel, "work") == 0
    assert runs == [1]


def test_a_worker_that_is_killed_loses_it(broker: VirtualHost, tmp_path: Path) -> None:
    """As promised: it is nowhere any more."""
    env = environment(broker.url, tmp_path)
    ledger = Ledger(env)
    with consuming("work", env=env) as worker:
        assert command("enqueue", "hold_once", "--args", "1", env=env).returncode == 0
        ledger.wait_for("started", [1])
        worker.signal(signal.SIGKILL)
    with consuming("work", env=env) as worker:
        assert command("enqueue", "quick", "--args", "2", env=env).returncode == 0
        ledger.wait_for("done", [2])
    assert [line["n"] for line in ledger.lines if line["event"] == "started"] == [1]

    async def left() -> list[int]:
        async with stranger(broker.url) as channel:
            return [await count(channel, name) for name in ("work", "work.dead")]

    assert asyncio.run(left()) == [0, 0]


async def test_a_job_knows_that_it_was_delivered_before(broker: VirtualHost) -> None:
    """A quorum queue counts it, a classic one does not say."""
    app = app_at(broker.url)
    seen: dict[str, tuple[bool, int | None]] = {}
    classic = Queue("classic", type="classic")

    @app.job(queue="work")
    async def quorum_job(ctx: Context) -> None:
        seen["quorum"] = ctx.redelivered, ctx.delivery_count

    @app.job(queue=classic)
    async def classic_job(ctx: Context) -> None:
        seen["classic"] = ctx.redelivered, ctx.delivery_count

    async with app.lifespan():
        await app.later_many([quorum_job.message(), classic_job.message()])
        async with stranger(broker.url) as channel:
            for name in ("work", "classic"):
                queue = await channel.get_queue(name, ensure=False)
                await queue.get()
        async with working(app):
            await until(lambda: len(seen) == 2, "both ran")
    assert seen == {"quorum": (True, 1), "classic": (True, None)}
