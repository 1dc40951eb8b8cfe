"""F38: RabbitMQ does not take the copy of a job that failed."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from amqpjobs.jobs.message.ids import new_job_id
from tests.faults.fleet import Fleet, until
from tests.faults.hostile import properties, table, text
from tests.faults.ledger import Ledger
from tests.faults.publishing import finish, leftovers, publishing
from tests.faults.stranger import Refused, Stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker

C, P = 2, 8

FAILS = b'"00"'


def post(url: str, ledger: Ledger, body: bytes, *given: dict[str, Any]) -> list[str]:
    """Publish a job that fails, once with each of these properties; the ids."""
    ids = [new_job_id() for _ in given]
    ledger.attempt(*ids)
    with Stranger(url) as stranger:
        for job_id, more in zip(ids, given, strict=True):
            said = properties(type="fails", message_id=job_id, delivery_mode=2, **more)
            stranger.publish("work", body, said)
    ledger.confirm(*ids)
    return ids


def letters(url: str) -> list[bytes]:
    """The headers of the dead letters, which are gone then."""
    with Stranger(url) as stranger:
        return [header for header, _ in stranger.drain("work.dead")]


@pytest.mark.row("F38")
async def test_copies_that_do_not_fit_or_are_not_allowed(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """F38: headers with names like ours that fill a frame. Each is dead-lettered at once, and says
    what it has lost; no channel is closed over any of them."""
    async with publishing(broker.url, ledger) as publisher:
        worker = await workers.start(broker.url, "work", concurrency=C, prefetch=P)
        dead = post(
            broker.url, ledger, FAILS,
            {"headers": table(("amqpjobs-x", text("x" * 130_900)))},
            {"headers": table(("amqpjobs-progress", text("x" * 130_900)))},
            {"headers": table(("amqpjobs-history", text("x" * 130_900)))},
            {"headers": table(("a", text("x" * 65_450)), ("b", text("x" * 65_450)))},
        )  # fmt: skip
        ledger.fault("copies that do not fit", len(dead))
        work = publisher.jobs.work
        assert await publisher.send_many([work.message(n) for n in range(20)]) == []
        await publisher.all_done(30, dead)
        with Stranger(broker.url) as stranger:
            await until(lambda s=stranger: s.ready("work.dead") == len(dead), 10, "all are dead")
        await finish(broker.url, workers, ledger)
    found = letters(broker.url)
    assert len([header for header in found if b"amqpjobs-dropped" in header]) == len(dead)
    assert not worker.events("publishing channel refused")
    ledger.check(duplicates=0, dead=dead)
    assert not leftovers(broker.url)
    assert not workers.trouble()


def take_up_to(broker: Broker, size: int) -> None:
    """Set the largest message, as the configuration file would; by version at one place or both."""
    words = f"application:set_env(rabbit, max_message_size, {size})"
    broker.ctl("eval", f"{words}, persistent_term:put(max_message_size, {size}).")


@pytest.fixture
def smaller(own_broker: Broker) -> Iterator[Broker]:
    """A broker whose largest message is what 4.x has by default when the test is over."""
    yield own_broker
    take_up_to(own_broker, 16 * 2**20)


@pytest.mark.row("F38")
async def test_a_copy_that_rabbitmq_refuses_with_406(
    smaller: Broker, workers: Fleet, ledger: Ledger
) -> None:
    """F38: the broker takes no more messages of that size. RabbitMQ itself puts the originals into
    the dead letters, each job runs once, and honest ones that fail beside them do so once."""
    async with publishing(smaller.url, ledger) as publisher:
        large = json.dumps("00" * 50_000).encode()
        refused = post(smaller.url, ledger, large, {}, {}, {})
        await asyncio.to_thread(take_up_to, smaller, 20_000)
        ledger.fault("the largest message is smaller now", len(refused))
        honest = post(smaller.url, ledger, FAILS, *[{}] * 20)
        again = publisher.jobs.again
        worker = await workers.start(smaller.url, "work", concurrency=C, prefetch=P)
        assert await publisher.send_many([again.message(0.1, 2) for _ in range(20)]) == []
        dead = [*refused, *honest]
        await publisher.all_done(30, dead)
        with Stranger(smaller.url) as stranger:
            await until(
                lambda s=stranger: s.ready("work.dead") >= len(dead), 30, "all are dead letters"
            )
        assert len(worker.events("job failed")) == len(dead)
        assert len(worker.events("copy refused, original dead-lettered by RabbitMQ")) == 3
        assert len(worker.events("publishing channel refused")) <= len(refused)
        await finish(smaller.url, workers, ledger)
    found = letters(smaller.url)
    # An honest one that was on its way beside a refused one may be there twice.
    assert len(dead) <= len(found) <= len(dead) + len(refused) * C
    assert len([header for header in found if b"x-death" in header]) == len(refused)
    ledger.check(duplicates=len(refused) * C, dead=dead)
    assert not leftovers(smaller.url)
    assert not workers.trouble()


@pytest.mark.row("F38")
async def test_an_answer_that_ends_the_connection(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """F38: addresses for direct replies that are none. RabbitMQ 3.10 ends the connection over an
    answer to one; what else is published there arrives, and honest jobs that fail do so once."""
    async with publishing(broker.url, ledger) as publisher:
        worker = await workers.start(broker.url, "work", concurrency=C, prefetch=P)
        addresses = ("amq.rabbitmq.reply-to.AAAA.AAAA", "amq.rabbitmq.reply-to.\u00e4.b")
        asked = post(broker.url, ledger, FAILS, *({"reply_to": each} for each in addresses))
        ledger.fault("addresses that are none", len(asked))
        again = publisher.jobs.again
        assert await publisher.send_many([again.message(0.1, 2) for _ in range(20)]) == []
        dead = [*asked, *post(broker.url, ledger, FAILS, *[{}] * 10)]
        await publisher.all_done(60, dead)
        with Stranger(broker.url) as stranger:
            await until(lambda s=stranger: s.ready("work.dead") >= len(dead), 60, "all are dead")
        assert len(worker.events("job failed")) == len(dead)
        await finish(broker.url, workers, ledger)
    # For each connection that was ended: one for the shared channel, and those that it is tried on.
    ends = len(asked) * 3
    assert len(dead) <= len(letters(broker.url)) <= len(dead) + ends * C
    ledger.check(duplicates=ends * C, dead=dead)
    assert not leftovers(broker.url)
    assert not workers.trouble()


async def fill(stranger: Stranger) -> None:
    """Publish until the queue takes no more: it learns of its policy in its own time."""

    def is_full() -> bool:
        try:
            stranger.publish("work.dead", b"filler", properties(delivery_mode=2))
        except Refused:
            return True
        return False

    await until(is_full, 20, "the queue of dead letters is full")


@pytest.mark.row("F38")
async def test_a_full_dead_letter_queue_keeps_no_slot(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """F38: more jobs fail than there are slots, and none of their copies is taken for a while. The
    slots are free after a time, others run, and nothing is lost or runs twice."""
    async with publishing(broker.url, ledger) as publisher:
        policy = {
            "pattern": r"^work\.dead$",
            "definition": {"max-length": 20, "overflow": "reject-publish"},
        }
        path = f"/policies/{broker.name}/full"
        broker.server.api("PUT", path, {**policy, "apply-to": "queues"})
        with Stranger(broker.url) as stranger:
            await fill(stranger)
        dead = post(broker.url, ledger, FAILS, *[{}] * C)
        ledger.fault("work.dead is full")
        worker = await workers.start(
            broker.url, "work", concurrency=C, prefetch=P,
            app="tests.faults.impatient:app",
        )  # fmt: skip
        await until(lambda: len(worker.events("copy not confirmed, slot freed")) == C, 30, "freed")
        work = publisher.jobs.work
        assert await publisher.send_many([work.message(n) for n in range(20)]) == []
        await publisher.all_done(30, dead)
        with Stranger(broker.url) as stranger:
            stranger.drain("work.dead")
            await until(lambda s=stranger: s.ready("work.dead") == C, 30, "there is room again")
        assert len(worker.events("job failed")) == C
        await finish(broker.url, workers, ledger)
    assert len([header for header in letters(broker.url) if b"amqpjobs-error" in header]) == C
    ledger.check(duplicates=0, dead=dead)
    assert not leftovers(broker.url)
    assert not workers.trouble()
