"""Schedules without a store: who has the exclusive queue sends, and nobody else."""

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from amqpjobs import App, Context, Every, Tick
from amqpjobs.errors import ConfigurationError, NotPermitted
from amqpjobs.jobs.queue.permissions import permissions_of
from amqpjobs.settings import load_settings
from amqpjobs.state.needs import housekeeping_of
from amqpjobs.state.schedules.turn_holder import TurnHolder
from amqpjobs.state.schedules.unstored import FiresUnstored
from amqpjobs.worker.worker import Worker
from tests.support.brokers.broker_server import VirtualHost
from tests.support.users import users_of


def app_at(url: str, seen: list[Tick] | None = None) -> App:
    """An app with a job for each second."""
    app = App("ticking", settings=load_settings(url=url))

    @app.job(queue="pulse", schedule=Every(seconds=1))
    async def pulse(ctx: Context) -> None:
        if seen is not None and ctx.tick is not None:
            seen.append(ctx.tick)

    return app


async def test_one_has_the_queue_until_its_connection_goes(broker: VirtualHost) -> None:
    """Then another takes it; who had it knows that it has it no more."""
    first, second = app_at(broker.url), app_at(broker.url)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(first.lifespan())
        await stack.enter_async_context(second.lifespan())
        one, other = TurnHolder(first.client), TurnHolder(second.client)
        assert await one.holds()
        assert await one.holds()
        assert not await other.holds()
        wire = (await first.client.publisher()).link.wire
        assert wire is not None
        wire.protocol.abort()
        async with asyncio.timeout(10):
            while not await other.holds():
                await asyncio.sleep(0.1)
        assert not await one.holds()


@pytest.mark.timeout(60)
async def test_two_workers_send_each_time_once(broker_43: VirtualHost) -> None:
    """Without a store, and with no gap."""
    seen: list[Tick] = []
    workers = [Worker(app_at(broker_43.url, seen)) for _ in range(2)]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    async with asyncio.timeout(30):
        while len(seen) < 4:
            await asyncio.sleep(0.1)
    for worker in workers:
        worker.stop()
    await asyncio.gather(*running)
    dues = sorted(tick.due for tick in seen)
    assert dues == [dues[0] + n for n in range(len(dues))]
    assert all(tick.previous == tick.due - 1 for tick in seen)


async def test_what_was_due_before_is_not_made_up_for(broker_43: VirtualHost) -> None:
    """A process that takes over does not know what others have sent."""
    app = app_at(broker_43.url)
    async with app.lifespan():
        duty = FiresUnstored(app.client)
        assert not await duty.turn()
        duty._known[0].after -= 3600
        duty._known[0].due = duty._known[0].after + 1
        assert await duty.turn()
        assert 1 <= await app.fleet.count("pulse") <= 11  # of the last ten seconds


async def test_a_user_without_permission_is_told(broker_43: VirtualHost) -> None:
    """`amqpjobs topology users` shows what it needs; with that it goes."""
    app = app_at(broker_43.url)
    allowed = permissions_of(app.queues.values(), "x", scheduled="ticking")
    assert "amqpjobs\\.ticker\\.ticking" in allowed[1].configure
    async with app.lifespan():
        pass  # the queues are there
    with users_of(app, broker_43) as users:
        url = users.url("worker")
        other = App("other", settings=load_settings(url=url, declare_topology=False))
        async with other.lifespan():
            with pytest.raises(NotPermitted, match="configure permission"):
                await TurnHolder(other.client).holds()
        same = App("ticking", settings=load_settings(url=url, declare_topology=False))
        async with same.lifespan():
            assert await TurnHolder(same.client).holds()


def test_nothing_of_sqlalchemy_is_imported(tmp_path: Path) -> None:
    """For an app that has schedules, and no store."""
    program = (
        "import asyncio, sys\n"
        "from amqpjobs import App, Every\n"
        "from amqpjobs.state.needs import housekeeping_of\n"
        "app = App('a')\n"
        "@app.job(queue='q', schedule=Every(seconds=9))\n"
        "async def f() -> None: ...\n"
        "async def main(): print(housekeeping_of(app.client))\n"
        "asyncio.run(main())\n"
        "sys.exit('sqlalchemy' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"<Housekeeping: schedules>\n"), done.stderr


async def test_a_store_that_cannot_be_used_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others fire the schedules from it: this process must not do so in another way."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    app = app_at("amqp://127.0.0.1:1/")
    assert repr(housekeeping_of(app.client)) == "<Housekeeping: schedules>"
    app.configure(store_url="postgresql://u@h/d")
    with pytest.raises(ConfigurationError, match="sqlalchemy"):
        housekeeping_of(app.client)
