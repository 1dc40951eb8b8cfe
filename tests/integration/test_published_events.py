"""Events on real brokers: what is bound gets them, and nothing is lost with an exchange."""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from amqpjobs import App, Context, Event, Exchange, Retry
from amqpjobs.client.deadletters.selection import EVERYTHING
from amqpjobs.errors import PublishRejected, Unroutable
from tests.support.amqp import close_connections, ready, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import command, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working

ORDERS = Exchange("orders")
DOCUMENTS = Exchange("documents", type="headers")

APP = """
from amqpjobs import App, Exchange

app = App("shop")
orders, documents = Exchange("orders"), Exchange("documents", type="headers")

@app.on(orders, "order.placed", queue="invoicing")
async def invoice(event: dict[str, int]) -> None: ...

@app.on(documents, {"format": "pdf"}, queue="invoicing")
async def read(event: dict[str, int]) -> None: ...

@app.broadcast(orders, "#")
def heard() -> None:
    print("this is for the processes of the app")
"""


async def test_events_reach_their_handlers(broker: VirtualHost) -> None:
    """By each type of exchange; a retry goes to its own queue over the delays, and to the same
    handler; what has failed for good is one dead letter, and is replayed to it."""
    app, seen, fails = app_at(broker.url), [], True
    keys, audit = Exchange("keys", type="direct"), Exchange("audit", type="fanout")

    def saw(ctx: Context, event: dict[str, int]) -> None:
        assert ctx.event is not None
        seen.append((ctx.job, ctx.event.exchange, ctx.event.routing_key, event["n"]))

    @app.on(ORDERS, "order.paid.#", queue="events", retry=Retry(attempts=2, first=0.1))
    async def paid(ctx: Context, event: dict[str, int]) -> None:
        saw(ctx, event)
        if fails:
            raise OSError("no")

    @app.on(ORDERS, "order.*", queue="events")
    async def order(ctx: Context, event: dict[str, int]) -> None:
        saw(ctx, event)

    @app.on(keys, "one", "two", queue="events")
    async def direct(ctx: Context, event: dict[str, int]) -> None:
        saw(ctx, event)

    @app.on(audit, queue="others")
    async def fanout(ctx: Context, event: dict[str, int]) -> None:
        saw(ctx, event)

    @app.on(DOCUMENTS, {"format": "pdf", "pages": 2}, queue="others")
    async def pdf(ctx: Context, event: dict[str, int]) -> None:
        saw(ctx, event)

    async with working(app), stranger(broker.url) as channel:
        await app.publish(ORDERS, "order.paid.twice", {"n": 1})
        await app.publish(ORDERS, "order.placed", {"n": 2})
        await app.publish(keys, "two", {"n": 3})
        await app.publish(keys, "three", {"n": 4})
        await app.publish(audit, "", {"n": 5})
        await app.publish(DOCUMENTS, "", {"n": 6}, headers={"format": "pdf", "pages": 2})
        await app.publish(DOCUMENTS, "", {"n": 7}, headers={"format": "pdf", "pages": 3})
        await ready(channel, "events.dead", 1)
        await until(lambda: len(seen) >= 6, "all are handled")
        fails = False
        moved = await app.dead_letters("events").replay(EVERYTHING)
        assert moved.done == 1
        await until(lambda: len(seen) == 7, "the replay")
        with pytest.raises(Unroutable):
            await app.publish(keys, "three", {"n": 4}, mandatory=True)
    assert sorted(seen) == [
        ("direct", "keys", "two", 3),
        ("fanout", "audit", "", 5),
        ("order", "orders", "order.placed", 2),
        ("paid", "orders", "order.paid.twice", 1),
        ("paid", "orders", "order.paid.twice", 1),
        ("paid", "orders", "order.paid.twice", 1),
        ("pdf", "documents", "", 6),
    ]


async def test_an_exchange_that_is_deleted_is_declared_again(broker: VirtualHost) -> None:
    """With the bindings of the app, and what is published meanwhile to other places arrives."""
    app, seen = app_at(broker.url), []

    @app.on(ORDERS, "x", queue="events")
    async def handler(event: int) -> None:
        seen.append(event)

    @app.job(queue="work")
    async def job(n: int) -> None:
        seen.append(n)

    async with working(app), stranger(broker.url) as channel:
        await app.publish(ORDERS, "x", 1)
        await channel.exchange_delete("orders")
        await asyncio.gather(*(job.later(n) for n in range(100, 120)), app.publish(ORDERS, "x", 2))
        await until(lambda: len(seen) == 22, "all of it")
        rows = broker.server.api("GET", f"/exchanges/{quote(broker.name, safe='')}/orders")
        assert rows["type"] == "topic"
        with pytest.raises(PublishRejected, match="'theirs' does not exist"):
            await app.publish(Exchange("theirs", foreign=True), "x", 1)
    assert sorted(seen) == [1, 2, *range(100, 120)]


async def test_every_process_gets_a_copy_and_hears_of_a_gap(broker: VirtualHost) -> None:
    """Two programs, one of them without a worker. After a lost connection each is told once that
    some may be missing."""
    apps, seen, missed = [app_at(broker.url), app_at(broker.url)], [], []

    def declare(app: App, place: int) -> None:
        async def gap() -> None:
            missed.append(place)

        @app.broadcast(ORDERS, "price.*", missed=gap)
        async def forget(event: Event, price: int) -> None:
            seen.append((place, event.routing_key, price))

        @app.job(queue="work")
        async def job() -> None: ...

    for place, app in enumerate(apps):
        declare(app, place)
    async with working(apps[0]), apps[1].lifespan():
        await apps[1].publish(ORDERS, "price.tea", 3)
        await until(lambda: len(seen) == 2, "both have it")
        closed = partial(asyncio.to_thread, close_connections, broker, "publish")
        await until(closed, "RabbitMQ knows the connections")
        await until(lambda: sorted(missed) == [0, 1], "both know of the gap")
        await apps[0].publish(ORDERS, "price.tea", 4)
        await until(lambda: len(seen) == 4, "both have it again")
    assert sorted(seen) == [(p, "price.tea", n) for p in (0, 1) for n in (3, 4)]
    await until(lambda: not _own_queues(broker), "the queues are gone with their processes")


def _own_queues(broker: VirtualHost) -> list[str]:
    rows = broker.server.api("GET", f"/queues/{quote(broker.name, safe='')}")
    return [row["name"] for row in rows if row["name"].startswith("amq.gen")]


def run(broker: VirtualHost, folder: Path, *words: str) -> Any:
    (folder / "shop.py").write_text(APP)
    api = broker.server.management_url
    more = {"AMQPJOBS_APP": "shop:app", "AMQPJOBS_MANAGEMENT_URL": api, "PYTHONPATH": str(folder)}
    return command(*words, env=environment(broker.url, folder, **more))


async def test_bindings_left_over_are_shown_and_removed(
    broker: VirtualHost, tmp_path: Path
) -> None:
    """By the command line; those of other queues, and of amqpjobs itself, are left alone."""
    assert run(broker, tmp_path, "topology", "apply").returncode == 0
    assert run(broker, tmp_path, "topology", "check").returncode == 0
    async with stranger(broker.url) as channel:
        queue = await channel.declare_queue("invoicing", passive=True)
        await queue.bind("orders", "order.old")
        await queue.bind("documents", "", arguments={"x-match": "any", "format": "txt"})
        await queue.unbind("orders", "order.placed")
        other = await channel.declare_queue("other", durable=True)
        await other.bind("orders", "order.old")
    checked = run(broker, tmp_path, "topology", "check", "--json")
    assert checked.returncode == 1
    found = {row["entity"]: row["state"] for row in json.loads(checked.stdout)}
    assert {entity: state for entity, state in found.items() if "binding" in entity} == {
        "binding of 'invoicing' to 'orders' by 'order.placed'": "missing",
        "binding of 'invoicing' to 'orders' by 'order.old'": "left over",
        "binding of 'invoicing' to 'documents' by {'format': 'txt', 'x-match': 'any'}": "left over",
    }
    doctor = run(broker, tmp_path, "doctor", "--json")
    told = {row["check"]: row["finding"] for row in json.loads(doctor.stdout)}
    assert told["binding of 'invoicing' to 'orders' by 'order.old'"] == "left over"
    unsure = run(broker, tmp_path, "topology", "apply", "--prune")
    assert unsure.returncode == 2
    assert "pass --yes" in unsure.stderr
    pruned = run(broker, tmp_path, "topology", "apply", "--prune", "--yes", "--json")
    assert pruned.returncode == 0, pruned.stderr
    assert len(json.loads(pruned.stdout)["removed"]) == 2
    assert run(broker, tmp_path, "topology", "check").returncode == 0
    rows = broker.server.api("GET", f"/bindings/{quote(broker.name, safe='')}")
    assert [row["source"] for row in rows if row["destination"] == "other" and row["source"]] == [
        "orders"
    ]


async def test_an_exchange_is_declared_after_the_queues_it_is_bound_to(
    broker: VirtualHost, tmp_path: Path
) -> None:
    """Without its bindings it would drop what others publish meanwhile: where a queue cannot be
    declared, there is no exchange either."""
    async with stranger(broker.url) as channel:
        await channel.declare_queue("invoicing", durable=True)
        assert run(broker, tmp_path, "topology", "apply").returncode != 0
        found = {each["name"] for each in broker.server.api("GET", f"/exchanges/{broker.name}")}
        assert "amqpjobs.dead" in found
        assert not {"orders", "documents"} & found


async def test_the_command_line_publishes(broker: VirtualHost, tmp_path: Path) -> None:
    """One event, and says what is wrong with it. It calls no broadcast handlers itself."""
    assert run(broker, tmp_path, "topology", "apply").returncode == 0
    done = run(broker, tmp_path, "publish", "orders", "order.placed", "-p", '{"n": 1}', "--json")
    assert json.loads(done.stdout)["routing_key"] == "order.placed"
    header = "--header", "format=pdf"
    assert run(broker, tmp_path, "publish", "documents", "-p", "{}", *header).returncode == 0
    async with stranger(broker.url) as channel:
        await ready(channel, "invoicing", 2)
    for words, status, told in [
        (("order", "x"), 2, "did you mean 'orders'"),
        (("orders", "x", "--mandatory"), 1, "no queue is bound for the event 'x'"),
        (("theirs", "x", "--foreign"), 1, "the exchange 'theirs' does not exist"),
        (("orders", "x", "-p", "{"), 2, "--payload is not JSON"),
    ]:
        failed = run(broker, tmp_path, "publish", *words)
        assert (failed.returncode, told in failed.stderr) == (status, True), failed.stderr
