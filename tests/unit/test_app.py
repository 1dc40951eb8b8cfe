"""The registry of jobs and queues, and the one door through which jobs are enqueued."""

import asyncio
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from amqpjobs import App, JobHandle, Queue
from amqpjobs import settings as settings_module
from amqpjobs.client.client import registry_of
from amqpjobs.errors import (
    BrokerUnavailable,
    ConfigurationError,
    PublishError,
    PublishManyFailed,
    UnknownJob,
    Unroutable,
)
from amqpjobs.settings import Settings


async def handler(x: int) -> int:
    return x


async def other(x: int) -> int:
    return x


def test_an_app_needs_a_name():
    """It is the `app_id` of its messages."""
    with pytest.raises(ConfigurationError, match="name"):
        App("")


def test_jobs_and_queues_are_known_by_name():
    """Read-only: `@app.job` is the one way in."""
    app = App("a")
    app.job(queue="q")(handler)
    app.job(queue=Queue("r"), name="named")(handler)
    assert set(app.jobs) == {"handler", "named"}
    assert set(app.queues) == {"q", "r"}
    assert repr(app) == "<App a: 2 jobs on 2 queues>"
    with pytest.raises(TypeError):
        app.jobs["x"] = 1
    with pytest.raises(TypeError):
        app.queues["x"] = 1


def test_two_jobs_of_one_name_are_an_error_that_names_both():
    """A message could not tell them apart; it says how to fix it."""
    app = App("a")
    app.job(queue="q")(handler)
    with pytest.raises(ConfigurationError, match=r"'handler'.*test_app\.handler.*name='...'"):
        app.job(queue="r")(handler)
    app.job(queue="r", name="second")(handler)


def test_two_apps_may_have_jobs_of_one_name():
    """Each has its own registry."""
    for name in ("a", "b"):
        App(name).job(queue="q")(handler)


@pytest.mark.parametrize("thing", [1, handler, print, staticmethod(handler), type("C", (), {})])
def test_only_functions_can_be_jobs(thing):
    """A callable object has no name that a message could carry; a job is one already."""
    app = App("a")
    if thing is handler:
        thing = app.job(queue="q")(handler)
    with pytest.raises(ConfigurationError, match="functions and methods"):
        app.job(queue="q")(thing)


def test_a_queue_by_its_name_is_the_one_that_was_defined():
    """Several jobs may share it."""
    app = App("a")
    queue = Queue("q", priorities={"high": 2, "low": 1})
    app.job(queue=queue)(handler)
    assert app.job(queue="q")(other).queue is queue


@pytest.mark.parametrize(
    ("first", "second", "hint"),
    [
        (Queue("q", delivery_limit=3), Queue("q", delivery_limit=4), "defined twice, differently"),
        ("q", Queue("q", delivery_limit=4), "used by its name before it was defined"),
        (
            Queue("q", priorities={"a": 1, "b": 1}),
            Queue("q", priorities={"b": 1, "a": 1}),
            "defined twice, differently",
        ),
    ],
)
def test_a_queue_that_is_defined_twice_differently_is_an_error(first, second, hint):
    """One of the two would be ignored: of priorities, the order is a difference too."""
    app = App("a")
    app.job(queue=first)(handler)
    with pytest.raises(ConfigurationError, match=hint):
        app.job(queue=second)(other)


def test_a_queue_that_is_defined_twice_alike_is_one():
    """Two modules may each write `Queue("q")`."""
    app = App("a")
    app.job(queue=Queue("q", delivery_limit=3))(handler)
    app.job(queue=Queue("q", delivery_limit=3))(other)
    assert list(app.queues) == ["q"]


def test_a_job_is_found_by_its_name():
    """And a wrong name is told with those that there are."""
    app = App("a")
    with pytest.raises(UnknownJob, match="there are: none"):
        registry_of(app).find("handler")
    app.job(queue="q")(handler)
    assert registry_of(app).find("handler").function is handler
    with pytest.raises(UnknownJob, match=r"no job 'hander'; there are: handler") as caught:
        registry_of(app).find("hander")
    assert caught.value.job == "hander"


def test_check_finds_what_only_shows_at_start():
    """Queues that would be one on the broker."""
    app = App("a")
    app.job(queue="q")(handler)
    app.check()
    app.job(queue="q.dead")(other)
    with pytest.raises(ConfigurationError, match=r"q\.dead"):
        app.check()


def test_settings_are_read_from_the_environment_once_and_late(monkeypatch):
    """Importing a module of jobs reads nothing."""
    app = App("a")
    monkeypatch.setenv("AMQPJOBS_CONCURRENCY", "7")
    assert app.settings.concurrency == 7
    monkeypatch.setenv("AMQPJOBS_CONCURRENCY", "8")
    assert app.settings.concurrency == 7


def test_given_settings_are_those():
    """The environment is not looked at."""
    settings = Settings(concurrency=3)
    assert App("a", settings=settings).settings is settings


def test_configure_goes_before_the_environment_and_before_given_settings(monkeypatch):
    """The flags of a command line; None leaves what there is."""
    monkeypatch.setenv("AMQPJOBS_CONCURRENCY", "7")
    monkeypatch.setenv("AMQPJOBS_HEARTBEAT", "44")
    app = App("a")
    assert app.settings.concurrency == 7
    app.configure(concurrency=9, url=None)
    assert (app.settings.concurrency, app.settings.heartbeat) == (9, 44)

    given = App("a", settings=Settings(concurrency=3, url="amqp://given/", declare_topology=False))
    given.configure(heartbeat=55)
    assert (given.settings.concurrency, given.settings.heartbeat) == (3, 55)
    assert given.settings.url.get_secret_value() == "amqp://given/"
    assert given.settings.declare_topology is False


def test_configure_twice_keeps_both():
    """Each flag may come from another place."""
    app = App("a")
    app.configure(concurrency=9)
    app.configure(heartbeat=55)
    assert (app.settings.concurrency, app.settings.heartbeat) == (9, 55)


def test_threads_that_are_first_share_one_client(monkeypatch):
    """Each client has connections of its own."""
    both = threading.Barrier(2)
    load = settings_module.load_settings

    def slowly(**given):
        both.wait(10)
        return load(**given)

    monkeypatch.setattr(settings_module, "load_settings", slowly)
    app = App("a")
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda _: app.client, range(2))
    assert one is other is app.client


def test_configure_tells_a_value_that_cannot_be_used():
    """As the environment's would be."""
    with pytest.raises(ConfigurationError, match="AMQPJOBS_CONCURRENCY"):
        App("a").configure(concurrency=0)


class Desk:
    """Takes messages where a broker would: refuses those of the jobs that it is told."""

    def __init__(self, refuse=()):
        self.taken = []
        self.refuse = refuse

    async def open(self):
        pass

    async def enqueue(self, message):
        if message.body in self.refuse:
            raise Unroutable("no queue", message_id=message.id)
        self.taken.append(message)
        return JobHandle(message.id, message.job, message.queue)

    async def enqueue_many(self, messages):
        results = []
        for message in messages:
            try:
                results.append(await self.enqueue(message))
            except PublishError as error:
                results.append(error)
        return results


class DeskApp(App):
    """An app whose messages end at a desk, for good."""

    def __init__(self, publishing, desk):
        super().__init__("a", publishing=publishing)
        self.desk = desk
        self.place = self.placed(settings=Settings(), make=lambda runtime: desk)
        self.place.__enter__()


def desk_app(*publishing, refuse=()):
    app = DeskApp(publishing, Desk(refuse))
    return app, app.job(queue="q")(handler)


async def test_later_returns_the_handle_of_the_message_that_was_sent():
    """Its id is in every log line about the job."""
    app, job = desk_app()
    handle = await job.later(3)
    assert (handle.id, handle.job, handle.queue) == (app.desk.taken[0].id, "handler", "q")


async def test_publishing_middleware_sees_every_message_and_may_change_it():
    """Outermost first; with `later` and with `later_many`."""
    seen = []

    def note(name):
        async def middleware(call_next, message):
            seen.append(name)
            return await call_next(replace(message, queue=f"{message.queue}.{name}"))

        return middleware

    app, job = desk_app(note("a"), note("b"))
    assert (await job.later(1)).queue == "q.a.b"
    await app.later_many([job.message(2)])
    assert seen == ["a", "b", "a", "b"]
    assert [m.queue for m in app.desk.taken] == ["q.a.b", "q.a.b"]


async def test_what_publishing_middleware_raises_reaches_the_caller():
    """And nothing is sent."""

    async def refuse(call_next, message):
        raise PermissionError

    app, job = desk_app(refuse)
    with pytest.raises(PermissionError):
        await job.later(1)
    assert app.desk.taken == []


async def test_many_messages_keep_their_order():
    """Handles come as the messages were given, from a generator too."""
    app, job = desk_app()
    messages = [job.message(i) for i in range(5)]
    handles = await app.later_many(m for m in messages)
    assert [h.id for h in handles] == [m.id for m in messages]


async def passes(call_next, message):
    return await call_next(message)


@pytest.mark.parametrize("publishing", [(), (passes,)], ids=["plain", "with middleware"])
async def test_of_many_messages_it_is_told_which_failed(publishing):
    """All others were handed over."""
    app, job = desk_app(*publishing, refuse=(b"1", b"3"))
    messages = [job.message(i) for i in range(5)]
    with pytest.raises(PublishManyFailed, match="2 of 5") as caught:
        await app.later_many(messages)
    assert {i: e.message_id for i, e in caught.value.errors.items()} == {
        1: messages[1].id, 3: messages[3].id
    }  # fmt: skip
    assert [caught.value.results[i].id for i in (0, 2, 4)] == [messages[i].id for i in (0, 2, 4)]
    assert [m.body for m in app.desk.taken] == [b"0", b"2", b"4"]


@pytest.mark.parametrize("publishing", [(), (passes,)], ids=["plain", "with middleware"])
async def test_what_is_no_message_hides_none_that_was_sent(publishing):
    """A job in place of its call: what was handed over before is told."""
    app, job = desk_app(*publishing)
    message = job.message(1)
    with pytest.raises(
        PublishManyFailed, match=r"is no message: write job.message\(...\)"
    ) as failed:
        await app.later_many([message, job])
    assert failed.value.results[0].id == message.id
    assert list(failed.value.errors) == [1]


async def test_middleware_that_raises_costs_the_other_messages_nothing():
    """What it raised stands in the place of its message, whatever the class; the rest is sent."""

    async def picky(call_next, message):
        if message.body == b"7":
            raise LookupError("no tenant")
        if message.body == b"9":
            raise asyncio.CancelledError
        return await call_next(message)

    app, job = desk_app(picky, refuse=(b"3",))
    messages = [job.message(i) for i in range(50)]
    with pytest.raises(PublishManyFailed, match="3 of 50") as caught:
        await app.later_many(messages)
    errors = caught.value.errors
    assert {i: type(e) for i, e in errors.items()} == {
        3: Unroutable, 7: LookupError, 9: PublishError
    }  # fmt: skip
    assert caught.value.__cause__ is errors[3]
    handled = {i: r.id for i, r in enumerate(caught.value.results) if i not in errors}
    assert handled == {i: m.id for i, m in enumerate(messages) if i not in errors}
    assert len(app.desk.taken) == 47


@pytest.mark.parametrize("publishing", [(), (passes,)], ids=["plain", "with middleware"])
async def test_an_iterator_that_raises_ends_the_messages_and_hides_no_result(publishing):
    """Some are on their way by then: their handles are told with the error."""
    app, job = desk_app(*publishing)

    def some():
        yield from (job.message(i) for i in range(3))
        raise ValueError("row 4 is broken")

    with pytest.raises(PublishManyFailed, match="1 of 4.*ValueError: row 4") as caught:
        await app.later_many(some())
    assert [type(r) for r in caught.value.results] == [JobHandle] * 3 + [ValueError]
    assert [m.body for m in app.desk.taken] == [b"0", b"1", b"2"]


async def test_a_caller_that_is_cancelled_is_told_nothing_else():
    """Its cancellation is no error of a message."""
    entered = asyncio.Event()

    async def waits(call_next, message):
        entered.set()
        await asyncio.Event().wait()

    app, job = desk_app(waits)
    call = asyncio.create_task(app.later_many([job.message(1)]))
    await entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_no_messages_are_no_error():
    """A list that happened to be empty."""
    app, _ = desk_app()
    assert await app.later_many([]) == []


# --- opening -----------------------------------------------------------------------------------


def nowhere() -> Settings:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Settings(url=f"amqp://127.0.0.1:{port}/", publish_timeout=0.05)


async def test_a_broker_that_is_away_only_delays_the_opening(caplog):
    """The web tier starts without it; what is sent meanwhile waits up to its timeout."""
    caplog.set_level(logging.INFO)
    app = App("a", settings=nowhere())
    job = app.job(queue="q")(handler)
    async with app.lifespan():
        assert "starting without it" in caplog.text
        with pytest.raises(PublishError, match="it was not sent"):
            await job.later(1)


async def test_a_lifespan_within_a_lifespan_does_nothing():
    """The outer one closes the connection."""
    app = App("a", settings=nowhere())
    async with app.lifespan():
        publisher = await app.client.publisher()
        async with app.lifespan():
            assert await app.client.publisher() is publisher
        assert await app.client.publisher() is publisher


async def test_opening_on_first_use_is_said_in_the_log(caplog):
    """Nobody closes that connection in the end."""
    caplog.set_level(logging.INFO)
    app = App("a", settings=nowhere())
    publisher = await app.client.publisher()
    assert "opening a connection on first use" in caplog.text
    await publisher.close()


async def test_an_error_for_good_is_told_to_whoever_opens():
    """A URL that is none; and the next one tries again."""
    app = App("a", settings=Settings(url="http://nowhere/"))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="amqp://"):
            async with app.lifespan():
                raise AssertionError("not reached")
        with pytest.raises(ConfigurationError, match="amqp://"):
            await app.client.publisher()


async def test_one_who_gives_up_waiting_takes_the_connection_from_nobody(caplog):
    """Both wait for one opening; the connection that comes of it is the one that is closed."""
    caplog.set_level(logging.INFO)
    heard = asyncio.Event()
    release = asyncio.Event()

    async def silent(reader, writer):
        heard.set()
        await release.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    app = App("a", settings=Settings(url=f"amqp://127.0.0.1:{port}/", publish_timeout=0.05))

    async def living():
        async with app.lifespan():
            return await app.client.publisher()

    outer = asyncio.create_task(living())
    await heard.wait()
    impatient = asyncio.create_task(app.client.publisher())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient])
    release.set()
    assert (await outer).link.wire is None
    assert "on first use" not in caplog.text
    server.close()
    await server.wait_closed()


def test_blocking_is_only_for_the_inside_of_its_with():
    """Outside of it there is no thread that could do the work."""
    app = App("a", settings=nowhere())
    job = app.job(queue="q")(handler)
    client = app.blocking()
    with pytest.raises(ConfigurationError, match="with app.blocking"):
        client.later(job.message(1))


def test_blocking_gives_synchronous_code_the_same_errors():
    """Through a thread of its own."""
    app = App("a", settings=nowhere())
    job = app.job(queue="q")(handler)
    with app.blocking() as client:
        with pytest.raises(PublishError, match="it was not sent"):
            client.later(job.message(1))
        with pytest.raises(PublishManyFailed, match="1 of 1"):
            client.later_many([job.message(1)])


def test_blocking_tells_an_error_for_good_when_it_is_entered():
    """And leaves no thread behind."""
    app = App("a", settings=Settings(url="http://nowhere/"))
    with pytest.raises(ConfigurationError), app.blocking():
        raise AssertionError("not reached")


async def test_a_refusal_of_the_connection_is_not_taken_for_a_broker_that_is_away():
    """A server that does not speak AMQP 0-9-1."""

    async def rude(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    app = App("a", settings=Settings(url=f"amqp://127.0.0.1:{port}/", publish_timeout=0.05))
    job = app.job(queue="q")(handler)
    async with app.lifespan():
        with pytest.raises((PublishError, BrokerUnavailable)):
            await job.later(1)
    server.close()
    await server.wait_closed()
