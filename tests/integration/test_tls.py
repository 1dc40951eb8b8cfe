"""The same way of every message inside of TLS: verified, with a password or a certificate."""

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import BaseModel

from amqpjobs import App
from amqpjobs.errors import BrokerUnavailable
from amqpjobs.settings import Settings
from amqpjobs.worker import Worker
from tests.broker_server import VirtualHost
from tests.brokers import Broker
from tests.certificates import CLIENT, certificates

COUNT = 1_000


class Item(BaseModel):
    number: int
    padding: str = ""


def tls_url(broker: VirtualHost, login: str = "guest:guest@") -> str:
    """The port with TLS, in this test's virtual host."""
    server = broker.server
    if not isinstance(server, Broker):
        pytest.skip("the given server's certificates are not ours")
    return f"amqps://{login}127.0.0.1:{server.tls_port}/{quote(broker.name, safe='')}"


def settings(broker: VirtualHost, **changes: object) -> Settings:
    values: dict[str, object] = {
        "url": tls_url(broker), "tls_ca_file": certificates().authority, "shutdown_timeout": 3.0,
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


async def test_messages_flow_inside_of_tls(broker: VirtualHost) -> None:
    """Published, confirmed, consumed and acked, small and large."""
    assert await publish_and_consume(settings(broker)) == set(range(COUNT))


async def test_a_certificate_is_a_login(broker: VirtualHost) -> None:
    """EXTERNAL: a client certificate, and no user in the URL."""
    broker.server.add_user(CLIENT, "not used")
    broker.server.set_permissions(CLIENT, broker.name)
    pem, key = certificates().client
    given = settings(
        broker,
        url=tls_url(broker, login=""),
        tls_cert_file=pem,
        tls_key_file=key,
    )
    assert await publish_and_consume(given) == set(range(COUNT))


async def test_an_unknown_authority_is_refused(broker: VirtualHost, tmp_path: Path) -> None:
    """Said once, with the setting that mends it; trying again would not help."""
    app = App("tls", settings=settings(broker, tls_ca_file=None))
    with pytest.raises(BrokerUnavailable, match="AMQPJOBS_TLS_CA_FILE") as caught:
        async with app.lifespan():
            pass
    assert not caught.value.temporary
