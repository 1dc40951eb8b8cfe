"""Exchanges, bindings, and which handler an event runs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs import App, Context, Event, Exchange, Queue, Router, Unique
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.origin import Origin
from amqpjobs.jobs.queue.exchange import Binding, bindings_of
from amqpjobs.jobs.queue.topology import foreign_of, topology_of

ORDERS = Exchange("orders")

WORDS = st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=5)
PATTERNS = st.lists(st.sampled_from(["a", "b", "*", "#", ""]), min_size=1, max_size=5)


def job_for(app: App, key: str, exchange: Exchange = ORDERS, queue: str = "q", **headers) -> str:
    found = app.client.runtime.registry.routes.find(queue, Origin(exchange.name, key), headers)
    return "" if found is None else found.name


def reference(pattern: list[str], key: list[str]) -> bool:
    """The definition, by recursion."""
    if not pattern:
        return not key
    first, *rest = pattern
    if first == "#":
        return any(reference(rest, key[n:]) for n in range(len(key) + 1))
    return bool(key) and first in ("*", key[0]) and reference(rest, key[1:])


@given(PATTERNS, WORDS)
def test_a_topic_is_matched_by_its_words(pattern: list[str], key: list[str]) -> None:
    """As RabbitMQ's tutorial defines it: ``*`` is one word, ``#`` is any number of them."""
    binding = Binding(ORDERS, ".".join(pattern))
    assert binding.matches(".".join(key), {}) == reference(pattern, key)


def test_a_pattern_of_many_wildcards_takes_no_time() -> None:
    """The key is a stranger's."""
    assert not Binding(ORDERS, "#.a" * 30).matches(".".join("b" * 120), {})


@pytest.mark.parametrize(
    ("wanted", "headers", "matches"),
    [
        ({"format": "pdf"}, {"format": "pdf", "more": 1}, True),
        ({"format": "pdf", "pages": 2}, {"format": "pdf"}, False),
        ({"format": "pdf", "pages": 2, "x-match": "any"}, {"format": "pdf"}, True),
        ({"x-priority": 1, "x-match": "any"}, {"x-priority": 1}, False),
        ({"x-priority": 1, "x-match": "any-with-x"}, {"x-priority": 1}, True),
        ({"format": None}, {"format": "anything"}, True),
        ({}, {"format": "pdf"}, True),
    ],
)
def test_headers_are_matched(wanted, headers, matches) -> None:
    """All of them, or any; those of RabbitMQ only where the binding says so."""
    [binding] = bindings_of(Exchange("docs", type="headers"), [wanted])
    assert binding.matches("", headers) is matches


def test_the_most_specific_pattern_wins() -> None:
    """Whatever the order of the declarations."""
    app = App("a")
    for name, pattern in [
        ("all", "#"), ("orders", "order.#"), ("any", "order.*"), ("paid", "order.paid.#"),
        ("late", "*.late"), ("exact", "order.paid.twice"),
    ]:  # fmt: skip

        @app.on(ORDERS, pattern, queue="q", name=name)
        async def handler(event: dict[str, int]) -> None: ...

    found = {key: job_for(app, key) for key in ("order.paid.twice", "order.paid.once", "x.late",
             "order.late", "order.a.b", "else")}  # fmt: skip
    assert found == {
        "order.paid.twice": "exact", "order.paid.once": "paid", "x.late": "late",
        "order.late": "any", "order.a.b": "orders", "else": "all",
    }  # fmt: skip


def test_exchanges_are_told_apart() -> None:
    """A queue may be bound to several, with the same key."""
    app, other = App("a"), Exchange("audit", type="fanout")

    @app.on(ORDERS, "x", queue="q")
    async def one(event: int) -> None: ...

    @app.on(other, queue="q")
    async def two(event: int) -> None: ...

    assert (job_for(app, "x"), job_for(app, "x", other)) == ("one", "two")
    # What comes over a binding between exchanges names the first one.
    assert job_for(app, "x", Exchange("upstream")) == "one"


def test_a_queue_and_its_bindings_are_declared() -> None:
    """And an exchange of others is not."""
    app, theirs = App("a"), Exchange("theirs", foreign=True)

    @app.on(ORDERS, "a", "b", queue="q")
    async def one(event: int) -> None: ...

    @app.on(theirs, "c", queue="q")
    async def two(event: int) -> None: ...

    registry = app.client.runtime.registry
    own = {(b.exchange, b.target, b.routing_key) for b in registry.topology.bindings}
    assert {("orders", "q", "a"), ("orders", "q", "b")} < own
    assert not {e.name for e in registry.topology.exchanges} & {"theirs"}
    assert ("theirs", "c") in {(b.exchange, b.routing_key) for b in registry.foreign.bindings}
    assert [(e.name, e.foreign) for e in registry.foreign.exchanges] == [("theirs", True)]


def test_a_priority_gets_its_events() -> None:
    """Each is a queue of its own on the broker."""
    app, queue = App("a"), Queue("q", priorities={"high": 3, "low": 1})

    @app.on(ORDERS, "urgent", queue=queue, priority="high")
    async def urgent(event: int) -> None: ...

    assert "q.high" in app.client.runtime.registry.routes.bindings
    with pytest.raises(ConfigurationError, match="no priority 'higher'"):
        app.on(ORDERS, "x", queue=queue, priority="higher")


def test_a_router_has_handlers_and_broadcasts() -> None:
    """They are the app's that includes it, before and after."""
    app, router = App("a"), Router(prefix="shop")

    @router.on(ORDERS, "a", queue="q")
    async def before(event: int) -> None: ...

    app.include(router)

    @router.on(ORDERS, "b", queue="q")
    async def after(event: int) -> None: ...

    @router.broadcast(ORDERS, "c")
    async def everywhere(event: int) -> None: ...

    assert (job_for(app, "a"), job_for(app, "b")) == ("shop.before", "shop.after")
    assert [each.name for each in app.client.runtime.registry.broadcasts] == [
        everywhere.__qualname__
    ]


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda app: Exchange(""), "a name of 1 to 255 bytes"),
        (lambda app: Exchange("x", type="topics"), "type is one of topic, direct"),
        (lambda app: Exchange("amqpjobs.delay"), "belong to amqpjobs"),
        (lambda app: Exchange("x", foreign=True, alternate="y"), "that this app declares"),
        (lambda app: app.on("orders", "x", queue="q"), '@on takes an Exchange("name")'),
        (lambda app: app.on(ORDERS, queue="q"), 'such as "order.placed"'),
        (lambda app: app.on(ORDERS, "x", "x", queue="q"), "is given twice"),
        (lambda app: app.on(ORDERS, 5, queue="q"), "a routing key is a str"),
        (lambda app: app.on(ORDERS, "x" * 256, queue="q"), "255 bytes at most"),
        (lambda app: app.on(Exchange("d", type="direct"), "a.*", queue="q"), "knows no wildcards"),
        (
            lambda app: app.on(Exchange("f", type="fanout"), "a", queue="q"),
            "leave the patterns out",
        ),
        (lambda app: app.on(Exchange("h", type="headers"), "a", queue="q"), "compares headers"),
        (
            lambda app: app.on(Exchange("h", type="headers"), {"x-match": "some"}, queue="q"),
            "x-match is one of all, any",
        ),
        (
            lambda app: app.on(Exchange("h", type="headers"), {"n": [1]}, queue="q"),
            "header 'n' is compared with a str, bool, int or float",
        ),
        (
            lambda app: app.on(Exchange("h", type="headers"), {1: "x"}, queue="q"),
            "the name of a header is a str of 1 to 255 bytes",
        ),
        (lambda app: Exchange("x", alternate="y" * 256), "alternate is the name of an exchange"),
        (lambda app: app.broadcast("orders"), '@broadcast takes an Exchange("name")'),
        (lambda app: app.publishes("orders", "x", int), 'publishes takes an Exchange("name")'),
        (lambda app: Exchange("\ud800"), "a name of 1 to 255 bytes"),
        (lambda app: app.on(ORDERS, "\ud800", queue="q"), "text of 255 bytes at most"),
        (lambda app: app.publishes(ORDERS, "\ud800"), "is a short text"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_declared(declare, words: str) -> None:
    """With what to write instead."""
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        declare(App("a"))


def test_two_handlers_cannot_have_the_same_events_of_a_queue() -> None:
    """One of them would never run."""
    app = App("a")

    @app.on(ORDERS, "x", queue="q")
    async def one(event: int) -> None: ...

    with pytest.raises(ConfigurationError, match="a queue of its own"):

        @app.on(ORDERS, "x", queue="q")
        async def two(event: int) -> None: ...

    with pytest.raises(ConfigurationError, match="'orders' is defined twice"):

        @app.on(Exchange("orders", type="direct"), "y", queue="q")
        async def three(event: int) -> None: ...


def test_a_handler_that_takes_the_event_as_broadcasts_do_is_refused() -> None:
    """It would be read from the payload, and every event would be a dead letter."""
    app = App("a")

    with pytest.raises(ConfigurationError, match=r"take `ctx: Context` first, and `ctx\.event`"):

        @app.on(ORDERS, "x", queue="q")
        async def handle(event: Event, order: int) -> None: ...

        app.check()


def test_what_needs_a_call_of_the_app_is_refused() -> None:
    """Others publish the events."""
    app = App("a")
    with pytest.raises(ConfigurationError, match="enqueue a job with unique="):

        @app.on(ORDERS, "x", queue="q", unique=Unique())
        async def once(event: int) -> None: ...

    with pytest.raises(ConfigurationError, match="a method cannot handle events"):

        class Shop:
            @app.on(ORDERS, "y", queue="q")
            async def handle(self, event: int) -> None: ...


def test_a_broadcast_takes_the_event_first() -> None:
    """And no Context: it is no job."""

    async def named(*, event: Event) -> None: ...
    async def second(price: int, event: Event) -> None: ...
    async def job(ctx: Context, price: int) -> None: ...

    for function, words in [
        (named, "first parameter"), (second, "first parameter"), (job, "has no Context"),
    ]:  # fmt: skip
        app = App("a")
        app.broadcast(ORDERS, "x")(function)
        with pytest.raises(ConfigurationError, match=words):
            app.check()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x-max-lenght": 5}, "no argument 'x-max-lenght' of a queue; did you mean 'x-max-length'"),
        ({"x-max-length": "5"}, "is a whole number from 1, not '5'"),
        ({"x-max-length": True}, "is a whole number from 1, not True"),
        ({"x-overflow": "drop"}, "is one of 'reject-publish', 'drop-head'"),
        ({"x-dead-letter-exchange": "x"}, "failed jobs go to <queue>.dead"),
        ({"x-queue-type": "classic"}, "write type=..."),
        ({"x-expires": 5}, "would delete the queue with the jobs in it"),
        ({"x-queue-version": 2}, "is for queues of type 'classic'"),
    ],
)
def test_arguments_of_a_queue_are_checked(arguments, words: str) -> None:
    """RabbitMQ itself ignores what it does not know."""
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        Queue("q", arguments=arguments)


def test_arguments_of_a_queue_are_declared() -> None:
    """A queue that drops its oldest jobs cannot dead-letter them at least once."""
    kept, short = (
        Queue("kept", arguments={"x-max-length": 5, "x-queue-leader-locator": "balanced"}),
        Queue("short", arguments={"x-max-length": 5, "x-overflow": "drop-head"}),
    )
    declared = {queue.name: queue.arguments for queue in topology_of([kept, short]).queues}
    assert declared["kept"]["x-max-length"] == declared["short"]["x-max-length"] == 5
    assert declared["kept"]["x-dead-letter-strategy"] == "at-least-once"
    assert "x-dead-letter-strategy" not in declared["short"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"failed": "drop"}, "failed is 'dead', 'reject' or 'requeue-limit'"),
        ({"failed": "reject", "foreign": False}, "failed is for foreign=True"),
        ({"priorities": {"high": 2, "low": 1}}, "its owner declares it"),
        ({"singleton": True}, "its owner declares it"),
        ({"arguments": {"x-max-length": 1}}, "its owner declares it"),
        ({"failed": "requeue-limit", "type": "classic"}, "does not count deliveries"),
    ],
)
def test_a_foreign_queue_says_no_more_than_it_can(options, words: str) -> None:
    """What only its owner decides is refused."""
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        Queue("theirs", **{"foreign": True, **options})


def test_a_foreign_queue_is_not_declared() -> None:
    """It is looked at, and bound for delays. Its dead letters are the app's, where it keeps any."""
    dead, reject = Queue("one", foreign=True), Queue("two", foreign=True, failed="reject")
    own = {queue.name for queue in topology_of([dead, reject]).queues}
    assert own == {"amqpjobs.delay.unroutable", "one.dead", "one.parked"}
    foreign = foreign_of([dead, reject])
    assert [(queue.name, queue.foreign) for queue in foreign.queues] == [
        ("one", True), ("two", True),
    ]  # fmt: skip
    assert {binding.exchange for binding in foreign.bindings} == {"amqpjobs.delay.deliver"}
