"""The example shop, as its users run it: a web tier and a worker, and the end of one of them."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.brokers.brokers import free_ports
from tests.support.brokers.postgres import Postgres
from tests.support.programs import Program, command, consuming, environment, running

UVICORN = (sys.executable, "-m", "uvicorn")
ORDER = {"email": "ada@example.org", "article": "a lamp", "cents": 4200}


class Shop:
    """A shop in a folder."""

    def __init__(self, url: str, folder: Path, database: str) -> None:
        self.mails, self.dies = folder / "mails", folder / "dies"
        self.env = environment(
            url,
            folder,
            AMQPJOBS_APP="examples.shop.jobs:app",
            SHOP_DATABASE=database,
            SHOP_MAILS=str(self.mails),
            SHOP_DIES=str(self.dies),
        )

    @contextmanager
    def open(self) -> Iterator[tuple[Program, httpx.Client]]:
        """Its web tier, with a client."""
        [port] = free_ports(1)
        tier = "tests.system.examples.shop_that_dies:api"
        arguments = (tier, "--port", str(port), "--log-level", "warning")
        with (
            running(*arguments, env=self.env, program=UVICORN) as program,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        ):
            assert poll(lambda: is_up(client) or program.ended, 30.0), str(program)
            assert not program.ended, str(program)
            yield program, client

    def wait_for_receipt(self, order: int, worker: Program) -> None:
        """Until the receipt of an order was sent."""
        mail = self.mails / f"order-{order}.txt"
        assert poll(mail.exists, 30.0), f"no receipt for {order}:\n{worker}"
        assert "Thank you for your order of a lamp" in mail.read_text()


def is_up(client: httpx.Client) -> bool:
    try:
        return client.get("/orders/0").status_code == 404
    except httpx.TransportError:
        return False


def place(client: httpx.Client, **other: Any) -> dict[str, Any]:
    answer = client.post("/orders", json=ORDER | other)
    assert answer.status_code == 201, answer.text
    placed: dict[str, Any] = answer.json()
    return placed


def sells(shop: Shop) -> None:
    """Orders are paid once and have one receipt, whatever happens."""
    with shop.open() as (web, client), consuming(env=shop.env) as worker:
        first = place(client)
        shop.wait_for_receipt(first["order"], worker)
        assert client.get(f"/orders/{first['order']}").json()["paid_cents"] == 4200

        # Rolled back: nothing is stored, and nothing was sent.
        assert client.post("/orders", json=ORDER | {"cents": 100_001}).status_code == 409

        # The same message once more: its job has been done.
        again = ("enqueue", "charge", "--args", str(first["order"]), "--id", first["job"])
        assert command(*again, env=shop.env).returncode == 0
        worker.wait_for("job was done before", job_id=first["job"])
        assert client.get(f"/orders/{first['order']}").json()["paid_cents"] == 4200

        # Killed between the commit and the publish: the worker's housekeeping sends it.
        shop.dies.touch()
        with pytest.raises(httpx.TransportError):
            client.post("/orders", json=ORDER)
        assert web.wait() == -signal.SIGKILL
        shop.dies.unlink()
        worker.wait_for("order is paid", times=2, timeout=30.0)
        crashed = worker.logged("order is paid")[-1]["order"]
        assert crashed > first["order"]
        shop.wait_for_receipt(crashed, worker)
        assert sorted(path.name for path in shop.mails.iterdir()) == [
            f"order-{first['order']}.txt", f"order-{crashed}.txt"
        ]  # fmt: skip
        assert len(worker.logged("order is paid")) == 2
        worker.signal()
        assert worker.wait() == 0
    with shop.open() as (web, client):
        assert client.get(f"/orders/{crashed}").json()["paid_cents"] == 4200
        web.signal()
        web.wait()


@pytest.mark.timeout(180)
def test_orders_and_their_jobs_do_not_come_apart(broker: VirtualHost, tmp_path: Path) -> None:
    """In SQLite."""
    sells(Shop(broker.url, tmp_path, f"sqlite+aiosqlite:///{tmp_path}/shop.db"))


@pytest.mark.timeout(180)
def test_nor_in_postgresql(broker_43: VirtualHost, postgres: Postgres, tmp_path: Path) -> None:
    """The same."""
    database = postgres.new_database().replace("postgresql://", "postgresql+asyncpg://")
    sells(Shop(broker_43.url, tmp_path, database))
