"""F9: the broker's confirm gets lost on the way. Nobody may believe that it came."""

import asyncio

import pytest

from amqpjobs.errors import NotConfirmed
from tests.faults.fleet import Fleet, until
from tests.faults.ledger import Ledger
from tests.faults.proxy import ACK, Frame, Proxy
from tests.faults.publishing import finish, leftovers, publishing
from tests.support.brokers.broker_server import VirtualHost

pytestmark = pytest.mark.row("F9")


def not_ack(frame: Frame) -> bool:
    return frame.name != ACK


async def test_a_lost_confirm_is_reported_as_unknown(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """Each call fails with `NotConfirmed(sent=True)`; the jobs are there all the same, once."""
    async with (
        Proxy(broker.url) as proxy,
        publishing(proxy.url, ledger, publish_timeout=1) as publisher,
    ):
        work = publisher.jobs.work
        assert await publisher.send(work.message(0)) is None
        proxy.set("down", keep=not_ack)
        ledger.fault("99 confirms dropped", 99)
        error = await publisher.send(work.message(1))
        assert isinstance(error, NotConfirmed)
        assert error.sent
        errors = await publisher.send_many(work.message(n) for n in range(2, 100))
        assert len(errors) == 98
        assert all(isinstance(e, NotConfirmed) and e.sent for e in errors)
        assert proxy.dropped["down"][ACK] > 0
        proxy.heal()
        # `multiple` in a later confirm would cover the lost ones as well, and be right.
        assert await publisher.send(work.message(100)) is None
        await workers.start(broker.url, "work")
        await until(lambda: len(ledger.done()) == 101, 20, "what was sent is done")
    await finish(broker.url, workers, ledger)
    ledger.check(duplicates=0)
    assert not leftovers(broker.url)


async def test_after_a_reconnect_the_same_id_is_sent_again(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """The confirms are lost, then the connection: all are confirmed in the end, under the ids that
    they had, and at most once more than needed."""
    count = 200
    async with (
        Proxy(broker.url) as proxy,
        publishing(proxy.url, ledger, publish_timeout=20) as publisher,
    ):
        proxy.set("down", keep=not_ack, cut_at=None)
        messages = [publisher.jobs.work.message(n) for n in range(count)]

        def lose() -> bool:
            return proxy.frames["up"]["basic.publish"] >= count and proxy.dropped["down"][ACK] > 0

        sending = asyncio.create_task(publisher.send_many(messages))
        await until(lose, 10, "the confirms are lost")
        ledger.fault("confirms lost, now the connection")
        proxy.heal()
        proxy.reset_all()
        assert await sending == []
        await workers.start(broker.url, "work")
        await publisher.all_done(20)
    await finish(broker.url, workers, ledger)
    verdict = ledger.check(duplicates=count)
    assert verdict.confirmed == count
    assert not leftovers(broker.url)


async def test_late_confirms_are_not_lost_confirms(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """Confirms that come half a second late, one behind the other, are waited for."""
    async with (
        Proxy(broker.url) as proxy,
        publishing(proxy.url, ledger, publish_timeout=20) as publisher,
    ):
        ledger.fault("10 confirms late", 10)
        proxy.set("down", delay=lambda frame: 0.5 if frame.name == ACK else 0.0)
        assert await publisher.send_many(publisher.jobs.work.message(n) for n in range(10)) == []
    await workers.start(broker.url, "work")
    await publisher.all_done(20)
    await finish(broker.url, workers, ledger)
    ledger.check(duplicates=0)


async def test_publishing_goes_on_when_a_window_of_confirms_was_lost(
    broker: VirtualHost, ledger: Ledger
) -> None:
    """More confirms lost than may be outstanding: the next messages must still be sent."""
    async with (
        Proxy(broker.url) as proxy,
        publishing(proxy.url, ledger, publish_timeout=2) as publisher,
    ):
        work = publisher.jobs.work
        assert await publisher.send(work.message(0)) is None
        proxy.set("down", keep=not_ack)
        errors = await publisher.send_many(work.message(n) for n in range(1200))
        assert len(errors) == 1200
        proxy.heal()
        await until_sent(publisher)


async def until_sent(publisher: object) -> None:
    """One message gets through, within a few tries."""
    errors = []
    for number in range(4):
        error = await publisher.send(publisher.jobs.work.message(number))  # type: ignore[attr-defined]
        if error is None:
            return
        errors.append(error)
    pytest.fail(f"nothing gets through any more: {errors}")
