"""Testing an app: everything real but the broker, jobs that run when told, and a clock to move."""

import asyncio
import gc
import os
import threading
import time
from datetime import timedelta

import aio_pika
import pytest
from pydantic import BaseModel

from amqpjobs import App, Context, KillSwitch, Queue, Reject, Retry, RetryAfter, Snooze
from amqpjobs.errors import ConfigurationError, JobFailed, ReplyTimeout
from amqpjobs.settings import Settings
from amqpjobs.testing import NotIdle
from tests.support.waiting import until
from tests.unit.testing import cpu_jobs

AGAIN = Retry(attempts=3, first=10, factor=2, jitter=False)
NEVER = Retry(attempts=1)
ELSEWHERE = "amqp://somebody:secret@production.invalid:5672/"


class Order(BaseModel):
    """What a customer wants."""

    id: int
    email: str = "ada@example.org"


def send_job(app, done, **options):
    @app.job(queue=Queue("mails", **options), name="send")
    async def send(order: Order, copies: int = 1) -> str:
        done.append(order.id)
        return f"{copies} to {order.email}"

    return send


@pytest.fixture
def app():
    return App("shop", settings=Settings(url=ELSEWHERE), retry=NEVER)


@pytest.fixture
def done():
    return []


# --- what is enqueued and run ----------------------------------------------------------------


@pytest.mark.parametrize("profile", ["3.10", "4.3"])
async def test_jobs_run_when_the_test_says_so(app, done, profile):
    """Enqueued for real; what was, with which arguments and options, is known; run by a worker."""
    send = send_job(app, done, priorities={"high": 2, "low": 1})
    async with app.testing(profile=profile) as t:
        first = await send.later(Order(id=1))
        second = await send.with_options(priority="high", expires=60).later(Order(id=2), copies=3)
        await asyncio.sleep(0.05)  # a time in which nothing must happen
        assert done == []
        calls = t.enqueued(send)
        assert [call.arguments for call in calls] == [
            {"order": Order(id=1)}, {"order": Order(id=2), "copies": 3},
        ]  # fmt: skip
        assert [call.id for call in calls] == [first.id, second.id]
        assert (calls[1].queue, calls[1].options.expires) == ("mails.high", 60)
        await t.run_until_idle()
        assert sorted(done) == [1, 2]
        assert sorted(t.results(send)) == ["1 to ada@example.org", "3 to ada@example.org"]
        assert {(ran.id, ran.attempt, ran.outcome) for ran in t.runs()} == {
            (first.id, 1, "done"), (second.id, 1, "done"),
        }  # fmt: skip
        assert len(t.enqueued()) == 2


async def test_what_jobs_enqueue_is_run_as_well(app):
    """All of it, however deep; and only while the test waits."""

    @app.job(queue="steps")
    async def step(ctx: Context, left: int) -> int:
        if left:
            await app.later_many([step.message(left - 1), step.message(0)])
        return left

    async with app.testing() as t:
        await step.later(3)
        await t.run_until_idle()
        assert sorted(t.results(step)) == [0, 0, 0, 0, 1, 2, 3]
        assert [call.arguments["left"] for call in t.enqueued(step)] == [3, 2, 0, 1, 0, 0, 0]
        await step.later(0)
        await t.run_until_idle()
        assert len(t.results(step)) == 8


async def test_threads_processes_and_methods_are_jobs_as_ever():
    """A process of a job finds the broker of the test, too."""
    app = cpu_jobs.app
    async with app.testing() as t:
        await cpu_jobs.first.later(1)
        await t.run_until_idle(timeout=30)
        # Enqueued in the other process: seen by what was run.
        assert t.results(cpu_jobs.second) == [2]
        assert t.results(cpu_jobs.first) == [1]


async def test_a_request_is_answered(app, done):
    """Jobs run for it, without being told; also those that ask others."""
    send = send_job(app, done)

    @app.job(queue="asking")
    async def ask(n: int) -> str:
        return "asked: " + await send.request(Order(id=n))

    async with app.testing() as t:
        assert await ask.request(7) == "asked: 1 to ada@example.org"
        assert done == [7]
        several = await asyncio.gather(*(send.request(Order(id=n)) for n in range(20)))
        assert len(several) == 20
        await send.later(Order(id=99))
        await asyncio.sleep(0.05)  # a time in which nothing must happen
        assert 99 not in done
        await t.run_until_idle()
        assert 99 in done


async def test_what_is_enqueued_behind_a_request_waits_until_it_is_told(app, done):
    """From the moment of the reply nothing more is started: not a turn of the event loop later."""
    send = send_job(app, done)
    async with app.testing() as t:
        queue = lambda: t.broker.virtual_host.queues["mails"]  # noqa: E731
        for n in range(30):
            await send.request(Order(id=n))
            await send.later(Order(id=1000 + n))
            await until(lambda: queue().unacked == 1 and not queue().ready, "the worker has it")
            assert 1000 + n not in done
            await t.run_until_idle()
            assert done[-1] == 1000 + n


async def test_who_asked_is_told_and_nobody_else(app):
    """A failure that somebody was told of is not raised again, and no dead letter."""

    @app.job(queue="asking")
    async def fail() -> None:
        raise LookupError("no")

    @app.job(queue="asking")
    async def sleepy() -> None:
        await asyncio.sleep(60)

    async with app.testing() as t:
        with pytest.raises(JobFailed, match="no"):
            await fail.request()
        with pytest.raises(ReplyTimeout):
            await sleepy.with_options(timeout=0.2).request()
        assert t.dead() == []


@pytest.mark.parametrize("opened", [False, True], ids=["made before", "opened before"])
async def test_a_blocking_client_from_before_reaches_the_broker_of_the_test(app, done, opened):
    """Modules make one when they are imported: it must not reach the broker that is configured."""
    send = send_job(app, done)
    other = App("other", settings=Settings(url=ELSEWHERE))
    send_job(other, [])
    async with other.testing() as production:
        app.configure(url=other.settings.url.get_secret_value())
        client = app.blocking()
        if opened:
            await asyncio.to_thread(client.__enter__)
        async with app.testing() as t:
            if not opened:
                await asyncio.to_thread(client.__enter__)
            await asyncio.to_thread(client.later, send.message(Order(id=1)))
            await t.run_until_idle()
            assert done == [1]
            if not opened:
                await asyncio.to_thread(client.__exit__, None, None, None)
        if opened:
            await asyncio.to_thread(client.__exit__, None, None, None)
        assert "mails" not in production.broker.virtual_host.queues or (
            production.broker.virtual_host.queues["mails"].ready == 0
        )


async def test_synchronous_code_enqueues_and_asks_there_too(app, done):
    """From another thread, with an event loop of its own."""
    send = send_job(app, done)

    def synchronous():
        with app.blocking() as client:
            client.later(send.message(Order(id=1)))
            return client.request(send.message(Order(id=2)), timeout=10)

    async with app.testing() as t:
        assert await asyncio.to_thread(synchronous) == "1 to ada@example.org"
        await t.run_until_idle()
        assert sorted(done) == [1, 2]
        assert len(t.enqueued(send)) == 2


async def test_strangers_publish_there_too(app, done):
    """It is a broker with an address."""
    send = send_job(app, done)
    async with app.testing() as t:
        connection = await aio_pika.connect(t.url)
        async with connection:
            channel = await connection.channel()
            message = aio_pika.Message(b'{"order": {"id": 5}}', content_type="application/json")
            await channel.default_exchange.publish(message, routing_key="mails")
        await t.run_until_idle()
        assert done == [5]
        assert t.results(send) == ["1 to ada@example.org"]


# --- errors -----------------------------------------------------------------------------------


async def test_an_error_of_a_job_is_raised_in_the_test(app):
    """The handler's own, with a note on the job; once."""

    @app.job(queue="orders")
    async def fail(n: int) -> None:
        raise LookupError(f"no {n}")

    async with app.testing() as t:
        job = await fail.later(1)
        with pytest.raises(LookupError, match="no 1") as caught:
            await t.run_until_idle()
        assert caught.value.__notes__ == [f"In job 'fail' from queue 'orders', id {job.id}."]
        await t.run_until_idle()
        (dead,) = t.dead()
        assert (dead.id, dead.job, dead.queue) == (job.id, "fail", "orders")
        assert (dead.reason, dead.error, dead.message) == ("failed", "LookupError", "no 1")
        assert (dead.attempt, dead.arguments) == (1, {"n": 1})


async def test_several_errors_are_raised_together(app):
    """As a group, for `except*`."""

    @app.job(queue="orders")
    async def fail(n: int) -> None:
        if n == 2:
            raise SystemExit(3)
        raise LookupError(f"no {n}") if n else Reject("nothing to do")

    async with app.testing() as t:
        for n in range(3):
            await fail.later(n)
        with pytest.raises(ExceptionGroup, match="3 jobs failed") as caught:
            await t.run_until_idle()
        kinds = {type(error).__name__: error for error in caught.value.exceptions}
        assert set(kinds) == {"LookupError", "JobFailed"}
        words = {str(error) for error in caught.value.exceptions}
        assert {"nothing to do", "no 1"} < words
        assert {dead.reason for dead in t.dead()} == {"failed", "rejected"}


async def test_a_message_that_no_job_can_take_is_raised(app, done):
    """Of a name that nobody knows, or with arguments that do not fit."""
    send_job(app, done)
    async with app.testing() as t:
        connection = await aio_pika.connect(t.url)
        async with connection:
            channel = await connection.channel()
            for body, kind in ((b'{"order": 1}', "send"), (b"{}", "unheard")):
                message = aio_pika.Message(body, content_type="application/json", type=kind)
                await channel.default_exchange.publish(message, routing_key="mails")
        with pytest.raises(ExceptionGroup) as caught:
            await t.run_until_idle()
        assert {type(error).__name__ for error in caught.value.exceptions} == {
            "DecodeError", "JobFailed",
        }  # fmt: skip
        (dead,) = t.dead()
        assert (dead.reason, dead.arguments) == ("invalid", None)


async def test_errors_can_be_left_to_the_test(app):
    """To look at the dead letters."""

    @app.job(queue="orders")
    async def fail() -> None:
        raise Reject("nothing to do")

    async with app.testing(raise_errors=False) as t:
        await fail.later()
        await t.run_until_idle()
        assert [(dead.reason, dead.message) for dead in t.dead()] == [("rejected", "nothing to do")]


async def test_an_error_that_nobody_waited_for_is_raised_in_the_end(app):
    """It must not get lost; and does not hide the test's own."""

    @app.job(queue="orders")
    async def fail() -> None:
        raise LookupError("no")

    @app.job(queue="orders")
    async def fine() -> None: ...

    with pytest.raises(LookupError, match="no"):
        async with app.testing():
            await fail.later()
            await fine.request()  # lets jobs run, and raises no errors of others
    with pytest.raises(KeyError) as caught:
        async with app.testing():
            await fail.later()
            await fine.request()
            raise KeyError("the test's own")
    assert caught.value.__notes__ == ["Jobs had failed by then: LookupError('no')"]


async def test_a_job_that_does_not_end_is_named(app):
    """After the timeout, and it does not hold up the end of the test."""

    @app.job(queue="orders")
    async def forever() -> None:
        await asyncio.Event().wait()

    began = time.monotonic()
    async with app.testing() as t:
        await forever.later()
        with pytest.raises(NotIdle, match=r"0\.1 s: running: forever; orders: 0 ready, 1 unacked"):
            await t.run_until_idle(timeout=0.1)
    assert time.monotonic() - began < 5


# --- time -------------------------------------------------------------------------------------


async def test_a_delay_passes_when_the_clock_is_moved(app, done):
    """Not before; and nothing is waited for."""
    send = send_job(app, done)
    began = time.monotonic()
    async with app.testing() as t:
        for n, delay in enumerate((60, 0.3, 86_400 * 30)):
            await send.with_options(delay=delay).later(Order(id=n))
        await t.run_until_idle()
        assert done == []
        await t.advance(0.3)
        assert done == [1]
        await t.advance(59)
        assert done == [1]
        await t.advance(0.7)
        assert done == [1, 0]
        await t.advance(86_400 * 30)
        assert done == [1, 0, 2]
    assert time.monotonic() - began < 10


async def test_time_does_not_go_back(app, done):
    """It says so, and nothing is run."""
    send = send_job(app, done)
    async with app.testing() as t:
        await send.later(Order(id=1))
        with pytest.raises(ValueError, match="does not go on by -1: give 0"):
            await t.advance(-1)
        assert done == []


async def test_a_retry_comes_after_its_pause(app):
    """An error that is tried again is none yet; the last one is."""
    endings = [ValueError("1"), ValueError("2"), ValueError("3")]

    @app.job(queue="orders", retry=AGAIN)
    async def flaky() -> None:
        raise endings.pop(0)

    async with app.testing() as t:
        await flaky.later()
        await t.run_until_idle()
        assert [(ran.attempt, ran.outcome) for ran in t.runs()] == [(1, "retried")]
        await t.advance(9.9)
        assert len(t.runs()) == 1
        await t.advance(0.1)
        assert len(t.runs()) == 2
        with pytest.raises(ValueError, match="3"):
            await t.advance(20)
        assert [dead.attempt for dead in t.dead()] == [3]


async def test_one_step_of_the_clock_runs_all_that_is_due_in_it(app):
    """Each at its time: a retry of a retry, too."""
    seen = []

    @app.job(queue="orders", retry=AGAIN)
    async def flaky(ctx: Context) -> int:
        seen.append(round(t.now - began, 1))
        if ctx.attempt < 3:
            raise ValueError
        return ctx.attempt

    async with app.testing() as t:
        began = t.now
        await flaky.later()
        await t.advance(3600)
        assert t.results(flaky) == [3]
        assert seen == [0, 10, 30]


async def test_what_a_job_asks_for_is_by_the_same_clock(app):
    """`Snooze` and `RetryAfter`."""

    @app.job(queue="orders", retry=AGAIN)
    async def later(ctx: Context, asked: list[str]) -> list[str]:
        if len(seen) == 0:
            seen.append(1)
            raise Snooze(100)
        if len(seen) == 1:
            seen.append(2)
            raise RetryAfter(50)
        return asked

    seen: list[int] = []
    async with app.testing() as t:
        await later.later(["x"])
        await t.run_until_idle()
        await t.advance(99)
        assert seen == [1]
        await t.advance(1)
        assert seen == [1, 2]
        await t.advance(50)
        assert t.results(later) == [["x"]]


async def test_what_has_expired_is_not_run(app, done):
    """By the clock of the test."""
    send = send_job(app, done)
    async with app.testing() as t:
        await send.with_options(delay=10, expires=5).later(Order(id=1))
        await send.with_options(expires=5).later(Order(id=2))
        t.broker.clock.advance(6)
        await t.run_until_idle()
        await t.advance(4)
        assert done == [1]
        assert [ran.outcome for ran in t.runs()] == ["expired", "done"]


async def test_a_rate_is_kept_by_the_clock_of_the_test(app, done):
    """What it holds back is not waited for, and starts when the clock is moved."""
    send = send_job(app, done, rate="2/s")
    async with app.testing() as t:
        await app.later_many(send.message(Order(id=n)) for n in range(5))
        await t.run_until_idle()
        assert done == [0, 1]
        await t.advance(0.5)
        assert done == [0, 1, 2]
        await t.advance(10)
        assert done == [0, 1, 2, 3, 4]


async def test_a_kill_switch_tries_again_when_the_clock_is_moved(app):
    """The dependency comes back while nobody waits."""
    switch = KillSwitch(ratio=0.5, at_least=2, pause=30)
    down = True

    @app.job(queue=Queue("mails", kill_switch=switch), retry=Retry(attempts=9, first=1, limit=1))
    async def call() -> str:
        if down:
            raise ConnectionError
        return "answered"

    async with app.testing() as t:
        await app.later_many(call.message() for _ in range(5))
        await t.run_until_idle()
        failed = len(t.runs(call))
        assert failed >= 2
        await t.advance(5)
        assert len(t.runs(call)) == failed
        down = False
        await t.advance(60)
        assert t.results(call) == ["answered"] * 5


# --- isolation --------------------------------------------------------------------------------


async def test_the_app_is_as_before_afterwards(app, done, monkeypatch):
    """Settings, connections, clock and environment; whatever happened."""
    monkeypatch.setenv("AMQPJOBS_URL", ELSEWHERE)
    send = send_job(app, done)
    settings, client = app.settings, app.client
    for _ in range(2):
        with pytest.raises(KeyError):
            async with app.testing() as t:
                assert app.settings.url.get_secret_value() == t.url == os.environ["AMQPJOBS_URL"]
                assert "production" not in app.settings.safe_url
                assert app.settings.store_url != settings.store_url
                await send.later(Order(id=1))
                raise KeyError
        assert app.settings is settings
        assert app.client is client
        assert os.environ["AMQPJOBS_URL"] == ELSEWHERE
        assert app.client.opened is None


async def test_an_environment_without_a_url_has_none_afterwards(app, done, monkeypatch):
    """So that what comes next does not connect to a broker that is gone."""
    monkeypatch.delenv("AMQPJOBS_URL", raising=False)
    send_job(app, done)
    async with app.testing():
        assert "AMQPJOBS_URL" in os.environ
    assert "AMQPJOBS_URL" not in os.environ


async def test_an_app_is_tested_once_at_a_time(app, done):
    """Two tests of it would be on the same broker without knowing; the first goes on."""
    send = send_job(app, done)
    async with app.testing() as t:
        with pytest.raises(ConfigurationError, match="'shop' is being tested already"):
            async with app.testing():
                pass
        await send.later(Order(id=1))
        await t.run_until_idle()
        assert done == [1]


async def test_several_apps_are_tested_side_by_side():
    """Nested, and in tasks; each on a broker of its own, with a clock of its own."""
    apps = [App(f"app{n}", settings=Settings(url=ELSEWHERE)) for n in range(3)]
    done = [[], [], []]
    sends = [send_job(app, seen) for app, seen in zip(apps, done, strict=True)]

    async def one(n):
        async with apps[n].testing() as t:
            await sends[n].with_options(delay=60).later(Order(id=n))
            await t.advance(60 if n else 1)
            return t.url

    async with apps[0].testing() as outer:
        await sends[0].later(Order(id=9))
        urls = await asyncio.gather(one(1), one(2))
        assert len({outer.url, *urls}) == 3
        assert os.environ["AMQPJOBS_URL"] == outer.url
        assert done == [[], [1], [2]]
        await outer.run_until_idle()
    assert done == [[9], [1], [2]]


async def test_a_connection_from_before_is_not_used(app, done):
    """It goes to another broker, and is there again afterwards."""
    send = send_job(app, done)
    other = App("other", settings=Settings(url=ELSEWHERE))
    send_job(other, [])
    async with other.testing() as production:
        app.configure(url=other.settings.url.get_secret_value())
        async with app.lifespan():
            await send.later(Order(id=1))
            before = app.client.opened
            async with app.testing() as t:
                await send.later(Order(id=2))
                await t.run_until_idle()
                assert done == [2]
            assert app.client.opened is before
        assert production.broker.virtual_host.queues["mails"].ready == 1


async def test_nothing_is_left_behind(app, done):
    """No task, no thread, no socket; warnings are errors here."""
    send = send_job(app, done)
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    for _ in range(3):
        async with app.testing() as t:
            await send.later(Order(id=1))
            await send.request(Order(id=2))
            await send.with_options(delay=60).later(Order(id=3))
            await t.run_until_idle()
            await send.later(Order(id=4))
    gc.collect()
    assert asyncio.all_tasks() == tasks
    assert set(threading.enumerate()) == threads
    assert done == [1, 2] * 3


async def test_faults_of_the_broker_are_at_hand(app, done):
    """Connections that are cut come back, and nothing is lost."""
    send = send_job(app, done)
    async with app.testing() as t:
        await send.later(Order(id=1))
        await t.run_until_idle()
        await send.later(Order(id=2))
        assert t.faults.cut_now() >= 2
        await t.run_until_idle()
        await send.later(Order(id=3))
        await t.run_until_idle()
        assert sorted(set(done)) == [1, 2, 3]


async def test_a_test_costs_little(app, done):
    """Processor time, since the machine may be busy: an app, a broker, a worker and a job. It is
    some 0.04 s; a busy machine may count three times that, and a wait would be more."""
    send = send_job(app, done)
    async with app.testing() as t:  # what is imported once
        await send.later(Order(id=0))
        await t.run_until_idle()
    began = time.process_time()
    for n in range(10):
        async with app.testing() as t:
            await send.later(Order(id=n))
            await t.run_until_idle()
    assert (time.process_time() - began) / 10 < 0.2


async def test_timeouts_of_calls_may_be_timedeltas(app, done):
    """As those of jobs."""
    send = send_job(app, done)
    async with app.testing() as t:
        minute = timedelta(minutes=1)
        await send.with_options(timeout=minute).request(Order(id=1))
        await app.request(send.message(Order(id=2)), timeout=minute)
        await t.advance(timedelta(hours=1), timeout=minute)
        await t.run_until_idle(timeout=minute)
        for wrong in (timedelta(0), True, "60"):
            with pytest.raises(ConfigurationError, match="timeout is a number of seconds above 0"):
                await app.request(send.message(Order(id=3)), timeout=wrong)
            with pytest.raises(ConfigurationError, match="timeout is a number of seconds above 0"):
                await app.result("7", timeout=wrong)
    assert done == [1, 2]


# --- the URL of the project ------------------------------------------------------------------


async def test_user_and_virtual_host_are_those_of_the_apps_url(done):
    """A program that has the project's login and virtual host works on the test's broker."""
    url = "amqp://ada:p%40ss@production.invalid/shop%2Feu"
    app = App("shop", settings=Settings(url=url), retry=NEVER)
    send = send_job(app, done)
    async with app.testing() as t:
        port = t.broker.port
        assert t.url == f"amqp://ada:p%40ss@127.0.0.1:{port}/shop%2Feu"
        await send.later(Order(id=1))
        async with await aio_pika.connect(t.url) as connection:
            channel = await connection.channel()
            assert (await channel.get_queue("mails")).declaration_result.message_count == 1
        await t.run_until_idle()
        other = f"amqp://somebody:else@127.0.0.1:{port}/elsewhere"
        async with await aio_pika.connect(other) as connection:
            assert await (await connection.channel()).declare_queue("mails", durable=True)
    assert done == [1]


async def test_an_app_whose_url_is_none_is_tested_all_the_same(done):
    """With the default login; the URL is not used."""
    app = App("shop", settings=Settings(url="amqp://host:port/"), retry=NEVER)
    send = send_job(app, done)
    async with app.testing() as t:
        await send.later(Order(id=1))
        await t.run_until_idle()
    assert done == [1]
