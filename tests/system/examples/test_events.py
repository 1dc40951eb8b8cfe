"""The example of two services and their events, as its users run it: two workers, and commands."""

import sys
from pathlib import Path

import pytest

from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.programs import command, consuming, environment

SHOP = (sys.executable, "-m", "examples.events.shop")


@pytest.mark.timeout(180)
def test_an_order_is_billed_by_the_other_service(broker: VirtualHost, tmp_path: Path) -> None:
    """One is paid after a retry. The bank refuses the other one, whose invoice is undone. What is
    placed while billing is away waits for it."""
    invoices = tmp_path / "invoices"
    env = environment(
        broker.url,
        tmp_path,
        EVENTS_SHOP=str(tmp_path / "shop.db"),
        EVENTS_INVOICES=str(invoices),
        AMQPJOBS_STORE_URL=f"sqlite:///{tmp_path}/jobs.db",
    )

    def place(*arguments: str) -> None:
        ran = command("place", *arguments, env=env, program=SHOP)
        assert ran.returncode == 0, str(ran)

    def orders() -> list[str]:
        ran = command("orders", env=env, program=SHOP)
        assert ran.returncode == 0, str(ran)
        return ran.stdout.splitlines()

    shop = env | {"AMQPJOBS_APP": "examples.events.shop:app"}
    billing = env | {"AMQPJOBS_APP": "examples.events.billing:app"}
    with consuming(env=shop):
        with consuming(env=billing) as worker:
            place("1", "4200")
            worker.wait_for("job retried", job="collect")
            place("2", "4200", "XX")
            assert poll(lambda: orders() == ["order 1: paid", "order 2: refused"], 40.0), orders()
            assert {path.name for path in invoices.iterdir()} == {"1.txt", "2.void.txt"}
            worker.signal()
            assert worker.wait() == 0
        place("3", "100")
        with consuming(env=billing):
            assert poll(lambda: orders()[2:] == ["order 3: paid"], 40.0), orders()
