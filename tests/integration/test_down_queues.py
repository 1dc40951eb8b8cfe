"""Queues that are down, on real brokers: a quorum queue without a leader, and a node on which no
queue with at-least-once dead-lettering can start (rabbitmq-server#16652)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import App
from amqpjobs.broker.rabbitmq import lives
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection import queues as inspection
from amqpjobs.broker.rabbitmq.inspection.management_api import leaderless, queues_without_leader
from amqpjobs.broker.rabbitmq.inspection.queues import connected, until_deletable
from amqpjobs.client.client import registry_of
from amqpjobs.errors import BrokerUnavailable
from amqpjobs.jobs.queue.topology import HOLDS
from tests.support.brokers.brokers import Broker
from tests.support.programs import command, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working

MEMBER = "quorum_queues, {'%2F_work', node()}"


def app_with(broker: Broker, done: list[int]) -> tuple[App, Any, Any]:
    app = app_at(broker.url, management_url=broker.management_url)

    @app.job(queue="work", timeout=60)
    async def work(n: int) -> None:
        done.append(n)

    @app.job(queue="fine", timeout=60)
    async def fine(n: int) -> None:
        done.append(n)

    return app, work, fine


async def ctl(broker: Broker, expression: str) -> str:
    return await asyncio.to_thread(broker.ctl, "eval", expression)


async def test_a_queue_that_is_down_leaves_the_others_alone(
    own_broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ closes the connection over each attempt to consume it: they become rare, and the
    other queues are consumed in between. It is consumed again once it has a leader."""
    monkeypatch.setattr(lives, "LONGEST_DOWN", 8.0)
    done: list[int] = []
    app, work, fine = app_with(own_broker, done)
    async with app.lifespan(), working(app) as worker:
        await ctl(own_broker, f"ra:stop_server({MEMBER}).")
        parts = worker._consuming
        assert parts is not None
        next(s for s in parts.subscriptions if s.queue == "work").restart()
        line = "queue is down, trying again"
        await until(lambda: caplog.messages.count(line) >= 3, "it backs off", 60)
        await fine.later(1)
        await until(lambda: done == [1], "the other queue is consumed", 60)
        assert "consumer missing, starting it again" not in caplog.messages
        assert "work" in worker.state
        await ctl(own_broker, f"ra:restart_server({MEMBER}).")
        await work.later(2)
        await until(lambda: done == [1, 2], "it is consumed again", 60)


async def test_a_marker_that_is_down_leaves_the_queues_alone(own_broker: Broker) -> None:
    """It cannot be looked at, and what it said is followed again once it can."""
    done: list[int] = []
    app, work, fine = app_with(own_broker, done)
    member = MEMBER.replace("work", HOLDS)
    async with app.lifespan():
        await app.fleet.pause("work")
        await ctl(own_broker, f"ra:stop_server({member}).")
        await work.later(1)
        async with working(app, "fine"):
            for n in range(2, 5):
                await fine.later(n)
                await until(lambda n=n: n in done, "it is consumed", 60)
        await ctl(own_broker, f"ra:restart_server({member}).")
        async with working(app):
            await fine.later(5)
            await until(lambda: 5 in done, "it is consumed", 60)
        assert 1 not in done


async def test_the_trap_of_dead_lettering_is_named_with_its_fix(
    own_broker: Broker, tmp_path: Path
) -> None:
    """By a declaration, and so by `topology apply` and workers that start."""
    await ctl(own_broker, "supervisor:terminate_child(rabbit_sup, rabbit_fifo_dlx_sup).")
    app, _, _ = app_with(own_broker, [])
    try:
        async with connected(app.settings, "test") as wire, Declarer(wire) as declarer:
            with pytest.raises(BrokerUnavailable, match=r"#16652\): restart that node"):
                await declarer.apply(registry_of(app).topology)
        env = environment(own_broker.url, tmp_path)
        applied = await asyncio.to_thread(command, "topology", "apply", env=env)
        assert applied.returncode == 3
        assert "restart that node" in applied.stderr
    finally:
        await ctl(own_broker, "supervisor:restart_child(rabbit_sup, rabbit_fifo_dlx_sup).")


async def test_queues_that_are_well_are_not_called_down(own_broker: Broker) -> None:
    """By the management API."""
    app, work, _ = app_with(own_broker, [])
    async with app.lifespan():
        await work.later(1)
        assert await asyncio.to_thread(queues_without_leader, app.settings) == []


def test_a_queue_without_members_online_is_down() -> None:
    """Rows as RabbitMQ 3.10.8 gives them, and one of a cluster that lost its majority."""
    node = "rabbit@localhost"
    ended = {"name": "work", "state": None, "leader": None, "members": [node], "online": []}
    well = ended | {"name": "fine", "state": "running", "leader": node, "online": [node]}
    lost = well | {"name": "lost", "state": "minority"}
    classic = {"name": "old", "state": "running"}
    assert leaderless([ended, well, lost, classic]) == ["work", "lost"]


async def test_queues_are_not_deleted_right_after_a_start(
    own_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may still elect their leaders. `bench --force` deletes its own all the same."""
    app, _, _ = app_with(own_broker, [])
    monkeypatch.setattr(inspection, "ELECTIONS", 1e6)
    assert await until_deletable(app.settings) > 1
    monkeypatch.setattr(inspection, "ELECTIONS", 0.0)
    assert await until_deletable(app.settings) == 0
    env = environment(own_broker.url, tmp_path)
    ran = await asyncio.to_thread(command, "bench", "--count", "100", "--json", "--force", env=env)
    assert ran.returncode == 0, str(ran)
    assert json.loads(ran.stdout)["results"]
