"""Probes, and what waits in the queues."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import App
from amqpjobs.broker.rabbitmq.inspection.overview import rows_of
from tests.integration.web.conftest import shop_at
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker
from tests.support.programs import command, environment
from tests.support.waiting import until
from tests.support.web import served


async def test_queues_are_what_the_command_shows(broker: VirtualHost, tmp_path: Path) -> None:
    """The same rows, key by key."""
    env = environment(broker.url, tmp_path, AMQPJOBS_MANAGEMENT_URL=broker.server.management_url)
    from tests.support.jobs import app

    app.configure(url=env["AMQPJOBS_URL"], tls_ca_file=env.get("AMQPJOBS_TLS_CA_FILE"))
    try:
        async with served(app) as client:
            enqueued = await client.post("/jobs/urgent?priority=high", json=1)
            assert enqueued.status_code == 202
            await client.post("/jobs/urgent?delay=1000", json=1)

            async def alike() -> bool:
                # RabbitMQ's numbers of what is ready are a moment old.
                shown = json.loads(command("queues", "--json", env=env).stdout)
                rows = (await client.get("/queues")).json()
                for row in (*shown, *rows):
                    row.pop("unacked", None)  # the two ask different management APIs
                ready = {row["queue"]: row["ready"] for row in rows}
                return bool(shown == rows and ready["lanes.high"] == 1 and "(delayed)" in ready)

            await until(alike, "both show the same")
    finally:
        app.__init__(app.name)


async def test_an_answer_is_given_again_for_a_moment(
    shop_43: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look is a connection to RabbitMQ: a hundred dashboards are not a hundred of them."""
    looks = 0

    async def counted(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return await rows_of(*arguments)

    monkeypatch.setattr("amqpjobs.web.queues.rows_of", counted)
    async with served(shop_43) as client:
        answers = await asyncio.gather(*(client.get("/queues") for _ in range(100)))
        assert {each.json()[0]["queue"] for each in answers} == {"receipts"}
    assert 1 <= looks < 10  # one for each second that it took


async def test_a_broker_that_blocks_is_no_readiness(own_broker_43: Broker) -> None:
    """503 with RabbitMQ's own reason; the process is alive, and ready again afterwards."""
    shop = shop_at(own_broker_43.url, publish_timeout=0.3)
    async with served(shop) as client:
        assert (await client.get("/readyz")).status_code == 200
        own_broker_43.ctl("set_vm_memory_high_watermark", "0.0001")

        async def refused() -> bool:
            # RabbitMQ tells those who publish.
            await client.post("/jobs/add", json={"a": 1})
            answer = await client.get("/readyz")
            return answer.status_code == 503 and "low on memory" in answer.text

        await until(refused, "not ready")
        assert (await client.get("/healthz")).status_code == 200
        own_broker_43.ctl("set_vm_memory_high_watermark", "0.6")

        async def ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await until(ready, "ready again")


async def test_a_store_that_cannot_be_made_is_no_readiness(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """Nothing would be recorded. As soon as it can be made, it is, and all is well."""
    folder = tmp_path / "later"
    shop = shop_at(broker_43.url, store_url=f"sqlite:///{folder}/s.db")
    async with served(shop, recorder=True) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert "nothing is recorded" in answer.text
        assert (await client.post("/jobs/add", json={"a": 1})).status_code == 202
        folder.mkdir()

        async def ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await until(ready, "ready")
