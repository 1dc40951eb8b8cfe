"""Singleton queues as values: what they need on the broker, and what does not go with them."""

import pytest

from amqpjobs import App, Batch, Queue, Router
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.contract.asyncapi import document_of
from amqpjobs.jobs.queue.permissions import permissions_of
from amqpjobs.jobs.queue.queue import lanes_of
from amqpjobs.jobs.queue.topology import topology_of
from amqpjobs.worker.flow.token_bucket import prefetch_of

SINGLE = "x-single-active-consumer"


def test_only_its_own_queue_is_declared_as_one():
    """Its dead letters and its parked jobs are not; a queue that is none says nothing of it."""
    queues = topology_of([Queue("q", singleton=True), Queue("other")]).queues
    assert {q.name: q.arguments.get(SINGLE) for q in queues if SINGLE in q.arguments} == {"q": True}


def test_its_users_need_no_other_permissions():
    """The worker reads it, as any other."""
    single, plain = [Queue("q", singleton=True)], [Queue("q")]
    assert permissions_of(single, "shop") == permissions_of(plain, "shop")


@pytest.mark.parametrize("rate", [None, "100/s"])
def test_a_worker_holds_one_delivery_of_it(rate):
    """Whatever its prefetch, and its rate."""
    queue = Queue("q", singleton=True, rate=rate)
    assert prefetch_of(queue, lanes_of(queue)[0], 40) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"singleton": 1}, "singleton is True or False, not 1"),
        ({"singleton": "yes"}, "singleton is True or False, not 'yes'"),
        ({"singleton": True, "priorities": {"high": 2, "low": 1}}, "leave priorities=... away"),
        ({"singleton": True, "type": "classic"}, "Leave type='classic' away"),
        ({"singleton": True, "type": "classic", "max_priority": 9}, "Leave type='classic' away"),
    ],
)
def test_what_cannot_keep_the_promise_is_refused(arguments, says):
    """Where it is defined, with the fix."""
    with pytest.raises(ConfigurationError, match=says):
        Queue("q", **arguments)


def test_a_batch_on_it_is_refused():
    """One job is held at a time: there is nothing to collect. By a router too, and by a call."""
    app, router = App("shop"), Router()
    single = Queue("single", singleton=True)
    with pytest.raises(ConfigurationError, match="leave out batch="):

        @app.job(queue=single, batch=Batch(10))
        async def insert(rows: list[int]) -> None: ...

    @router.job(queue=single, batch=Batch(10))
    async def routed(rows: list[int]) -> None: ...

    with pytest.raises(ConfigurationError, match="leave out batch="):
        app.include(router)

    @app.job(queue="plain", batch=Batch(10))
    async def plain(rows: list[int]) -> None: ...

    @app.job(queue=single)
    async def one() -> None: ...

    with pytest.raises(ConfigurationError, match="leave out queue="):
        plain.with_options(queue="single")


def test_it_is_the_same_queue_for_all_jobs():
    """By its name, once it is defined; otherwise defined is another queue."""
    app = App("shop")

    @app.job(queue=Queue("single", singleton=True))
    async def first() -> None: ...

    @app.job(queue="single")
    async def second() -> None: ...

    assert registry_of(app).queues["single"].singleton
    with pytest.raises(ConfigurationError, match="differently"):

        @app.job(queue=Queue("single", rate="1/s"))
        async def third() -> None: ...


def test_asyncapi_says_so():
    """In words, and among the arguments."""
    app = App("shop")

    @app.job(queue=Queue("single", singleton=True))
    async def first() -> None: ...

    channel = document_of(app.client.runtime, "1")["channels"]["single"]
    assert "One of them runs at a time." in channel["description"]
    assert channel["x-amqpjobs"]["arguments"][SINGLE] is True
