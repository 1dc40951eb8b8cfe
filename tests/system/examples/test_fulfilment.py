"""The example of an order that is fulfilled or taken back, as its users run it: a worker, and
commands."""

import json
from pathlib import Path

import pytest

from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.brokers.postgres import Postgres
from tests.support.programs import command, consuming, environment


class Shop:
    """A shop in a folder."""

    def __init__(self, url: str, folder: Path, store: str) -> None:
        self.books = folder / "books"
        self.env = environment(
            url,
            folder,
            AMQPJOBS_APP="examples.fulfilment.jobs:app",
            AMQPJOBS_STORE_URL=store,
            FULFILMENT_BOOKS=str(self.books),
        )

    def order(self, number: int, cents: int = 4200, country: str = "DE") -> str:
        """Order a lamp; the id of the job."""
        order = json.dumps({"number": number, "cents": cents, "country": country})
        ran = command("enqueue", "fulfil", "--args", order, env=self.env)
        assert ran.returncode == 0, str(ran)
        return ran.stdout.strip()

    def approve(self, job_id: str, *, granted: bool) -> None:
        """As a person does."""
        approval = json.dumps({"by": "ada", "granted": granted})
        ran = command("signal", job_id, "approval", approval, env=self.env)
        assert ran.returncode == 0, str(ran)

    def entries(self) -> set[str]:
        """What is in the books."""
        return {f"{path.parent.name}/{path.stem}" for path in self.books.glob("*/*.txt")}

    def wait_for(self, *entries: str) -> None:
        """Until these are in the books."""
        assert poll(lambda: set(entries) <= self.entries(), 30.0), sorted(self.entries())


def fulfils(shop: Shop) -> None:
    """Orders are fulfilled, or taken back, whatever happens to the worker."""
    with consuming(env=shop.env) as worker:
        shop.order(1)
        shop.wait_for("payments/payment-1", "stock/lamp-1", "parcels/parcel-1")

        # The carrier refuses it: the last step first, what was done is taken back.
        failed = shop.order(2, country="XX")
        shop.wait_for("payments-taken-back/payment-2", "stock-taken-back/lamp-2")
        worker.wait_for("job failed", job_id=failed)
        worker.wait_for("job done", job="refund")
        ended = [line["job"] for line in worker.logged("job done")]
        assert ended.index("release") < ended.index("refund")

        # A large one waits for a person, and nobody holds it: the worker is killed meanwhile.
        granted, refused = shop.order(3, cents=200_000), shop.order(4, cents=200_000)
        for job_id in (granted, refused):
            worker.wait_for("job suspended", job_id=job_id)
        worker.kill()
    shop.approve(granted, granted=True)
    shop.approve(refused, granted=False)
    with consuming(env=shop.env) as worker:
        shop.wait_for("payments/payment-3", "parcels/parcel-3")
        worker.wait_for("job undone", job_id=refused)
        worker.wait_for("job done", job_id=granted)
        worker.signal()
        assert worker.wait() == 0
    assert shop.entries() == {
        "payments/payment-1", "stock/lamp-1", "parcels/parcel-1",
        "payments/payment-2", "stock/lamp-2",
        "payments-taken-back/payment-2", "stock-taken-back/lamp-2",
        "payments/payment-3", "stock/lamp-3", "parcels/parcel-3",
    }  # fmt: skip


@pytest.mark.timeout(180)
def test_orders_are_fulfilled_or_taken_back(broker: VirtualHost, tmp_path: Path) -> None:
    """With SQLite."""
    fulfils(Shop(broker.url, tmp_path, f"sqlite:///{tmp_path}/jobs.db"))


@pytest.mark.timeout(180)
def test_so_they_are_with_postgresql(
    broker_43: VirtualHost, postgres: Postgres, tmp_path: Path
) -> None:
    """The same."""
    shop = Shop(broker_43.url, tmp_path, postgres.new_database())
    assert command("migrate", env=shop.env).returncode == 0
    fulfils(shop)
