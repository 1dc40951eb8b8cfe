"""The same way of every message inside of TLS: verified, with a password or a certificate."""

import asyncio
from pathlib import Path

import pytest
from pydantic import BaseModel

from amqpjobs import App
from amqpjobs.errors import BrokerUnavailable
from amqpjobs.settings import Settings
from amqpjobs.worker import Worker
from tests.brokers import Broker
from tests.certificates import CLIENT, certificates

COUNT = 1_000


class Item(BaseModel):
    number: int
    padding: str = ""


def settings(broker: Broker, **changes: object) -> Settings:
    values: dict[str, object] = {
        "url": broker.tls_url, "tls_ca_file": certificates().authority, "shutdown_timeout": 3.0,
    }  # fmt: skip
    return Settings.model_validate(values | changes)


async def publish_and_consume(given: Settings) -> set[int]:
    app = App("tls", settings=given)
    seen: set[int] = set()
    done = asyncio.Event()

    @app.job(queue="tls")
    async def take(item: Item) -> None:
        seen.add(item.number)
        if len(seen) == COUNT:
            done.set()

    # Every hundredth body is larger than a TLS record and than an AMQP frame.
    messages = (
        take.message(Item(number=n, padding="x" * (200_000 if n % 100 == 0 else 10)))
        for n in range(COUNT)
    )
    async with app.lifespan():
        await app.later_many(messages)
        worker = Worker(app, ["tls"], concurrency=50)
        working = asyncio.ensure_future(worker.run())
        async with asyncio.timeout(30):
            await done.wait()
        worker.stop()
        await working
    return seen


async def test_messages_flow_inside_of_tls(own_broker: Broker) -> None:
    """Published, confirmed, consumed and acked, small and large."""
    assert await publish_and_consume(settings(own_broker)) == set(range(COUNT))


async def test_a_certificate_is_a_login(own_broker: Broker) -> None:
    """EXTERNAL: a client certificate, and no user in the URL."""
    own_broker.add_user(CLIENT, "not used")
    own_broker.set_permissions(CLIENT, "/")
    pem, key = certificates().client
    given = settings(
        own_broker,
        url=own_broker.tls_url.replace("guest:guest@", ""),
        tls_cert_file=pem,
        tls_key_file=key,
    )
    assert await publish_and_consume(given) == set(range(COUNT))


async def test_an_unknown_authority_is_refused(own_broker: Broker, tmp_path: Path) -> None:
    """Said once, with the setting that mends it; trying again would not help."""
    app = App("tls", settings=settings(own_broker, tls_ca_file=None))
    with pytest.raises(BrokerUnavailable, match="AMQPJOBS_TLS_CA_FILE") as caught:
        async with app.lifespan():
            pass
    assert not caught.value.temporary
