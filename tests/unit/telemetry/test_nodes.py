"""Spans and metrics name the node of the cluster that is connected."""

from contextlib import ExitStack

from amqpjobs.broker.embedded import Broker
from amqpjobs.broker_url import Node
from amqpjobs.telemetry import conventions as names
from tests.support.metering import measured
from tests.support.tracing import Spans, attributes_of
from tests.support.waiting import until
from tests.support.workers import app_at, working


async def test_what_is_published_names_the_node_that_takes_it(spans: Spans) -> None:
    """Another one after the first is lost."""
    with ExitStack() as stack, measured(joined=True) as measure:
        brokers = {}
        for _ in range(2):
            one = ExitStack()
            stack.enter_context(one)
            broker = one.enter_context(Broker.in_thread())
            brokers[broker.port] = one
        hosts = ",".join(f"127.0.0.1:{port}" for port in brokers)
        app = app_at(f"amqp://guest:guest@{hosts}/")

        @app.job(queue="work")
        async def job(n: int) -> None: ...

        async with app.lifespan():
            await job.later(1)
            first = attributes_of(await spans.one("publish work"))["server.port"]
            brokers[first].close()
            await job.later(2)  # its span begins before there is another node
            await job.later(3)
            *_, last = await spans.of("publish work", 3)
            assert {first, attributes_of(last)["server.port"]} == set(brokers)
            points = measure.points(names.SENT)
            assert {point.attributes["server.port"] for point in points} == set(brokers)


async def test_a_worker_names_the_node_of_its_consumers(embedded: Broker, spans: Spans) -> None:
    """In its spans and its metrics."""
    app = app_at(embedded.url)

    @app.job(queue="work")
    async def job(n: int) -> None: ...

    with measured(joined=True) as measure:
        async with working(app) as worker:
            for moved in worker._link.on_moved:
                moved(Node("rabbit-2", 5673))
            await job.later(1)
            await until(lambda: measure.value(names.ENDED) == 1, "it has ended")
            [point] = measure.points(names.CONSUMED)
            run = attributes_of(await spans.one("process work"))
            for found in (point.attributes, run):
                assert (found["server.address"], found["server.port"]) == ("rabbit-2", 5673)
