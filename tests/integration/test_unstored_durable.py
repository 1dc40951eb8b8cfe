"""Durable jobs without a store: their messages carry what they have done."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from amqpjobs import App, Context, Queue, Retry, Undo
from amqpjobs.client.deadletters.selection import Selection
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.headers import for_replay, replay_header, steps_of
from amqpjobs.jobs.message.steps import LARGEST_STEPS, CarriedStep, steps_from, steps_table
from amqpjobs.state.durable.typed import fingerprint
from amqpjobs.worker.worker import Worker
from tests.support.amqp import publish, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at, working


@pytest.fixture(autouse=True)
def _no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `sql` is not installed: neither found nor imported."""
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)


def make_app(**options: Any) -> App:
    return App("shop", retry=Retry(attempts=3, first=1.0, jitter=0.0), **options)


async def test_what_is_done_is_not_done_again_after_a_failure() -> None:
    """The copy of a retry carries results and cursors, and they come back typed."""
    app, done = make_app(), list[object]()

    async def rate_of(currency: str) -> tuple[str, float]:
        done.append("rate")
        return currency, 1.5

    @app.job(queue="orders", durable=True)
    async def fulfil(ctx: Context, order: int) -> str:
        rate = await ctx.step("rate", rate_of, "EUR")
        async for page in ctx.each("pages", [1, 2, 3]):
            if page == 2 and ctx.attempt == 1:
                raise OSError("the printer is away")
            done.append(page)
        assert await ctx.step("in a thread", str.upper, "x") == "X"
        return f"{order} at {rate}"

    async with app.testing() as t:
        await fulfil.later(7)
        await t.run_until_idle()
        await t.advance(2)
        assert done == ["rate", 1, 2, 3]
        assert t.results(fulfil) == ["7 at ('EUR', 1.5)"]
        assert [run.outcome for run in t.runs()] == ["retried", "done"]


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
async def test_a_worker_that_stops_hands_on_what_is_done(
    broker: VirtualHost, queue_type: str
) -> None:
    """The next worker goes on behind it: a step that was interrupted is done again, no other."""
    gate, done = asyncio.Event(), list[str]()
    app = app_at(broker.url)

    @app.job(queue=Queue("orders", type=queue_type), durable=True)  # type: ignore[arg-type]
    async def fulfil(ctx: Context) -> None:
        async def first() -> str:
            done.append("first")
            return "one"

        async def second() -> None:
            done.append("second")
            await gate.wait()

        assert await ctx.step("first", first) == "one"
        await ctx.step("second", second)
        done.append("end")

    async with app.lifespan():
        await fulfil.later()
        async with working(app) as worker:
            await until(lambda: done == ["first", "second"], "it waits in its second step")
            worker.stop()
            worker.stop()  # now
        gate.set()
        async with working(app):
            await until(lambda: done[-1] == "end", "it goes on")
        assert done == ["first", "second", "second", "end"]


async def test_a_loop_ends_its_slice_and_goes_on_with_the_next_item(broker_43: VirtualHost) -> None:
    """As a copy that is sent at once, so that no delivery is held for longer than that; a run does
    one item at least."""
    app, done = app_at(broker_43.url), list[int]()

    @app.job(queue="rows", durable=True)
    async def load(ctx: Context) -> None:
        async for row in ctx.each("rows", range(5), slice=0):
            done.append(row)

    outcomes = list[str]()
    async with app.lifespan():
        await load.later()
        async with working(app, observers=[lambda _, outcome: outcomes.append(outcome.word)]):
            await until(lambda: "done" in outcomes, "all rows are done")
    assert done == [0, 1, 2, 3, 4]
    assert sorted(outcomes) == ["done", *["snoozed"] * 4]


async def test_each_worker_that_may_start_one_job_gets_further(broker_43: VirtualHost) -> None:
    """It is told to stop when it has started it; nothing would ever be done if that left the job
    at once."""
    app, done = app_at(broker_43.url), list[object]()

    @app.job(queue="rows", durable=True)
    async def load(ctx: Context) -> None:
        await ctx.step("a", done.append, "a")
        await ctx.step("b", done.append, "b")
        async for row in ctx.each("rows", range(2)):
            done.append(row)

    async with app.lifespan():
        await load.later()
        for _ in range(3):
            async with asyncio.timeout(20):
                await Worker(app, max_jobs=1).run()
    assert done == ["a", "b", 0, 1]


async def test_a_step_beside_a_loop_is_carried_too() -> None:
    """It goes on when the loop leaves the handler, and is waited for."""
    app, done = make_app(), list[object]()

    @app.job(queue="rows", durable=True)
    async def load(ctx: Context) -> None:
        left = asyncio.Event()

        async def loop() -> None:
            try:
                async for row in ctx.each("rows", range(2), slice=0):
                    await asyncio.sleep(0)
                    done.append(row)
            finally:
                left.set()

        async def slow() -> None:
            await left.wait()
            await asyncio.sleep(0.05)
            done.append("slow")

        await asyncio.gather(loop(), ctx.step("slow", slow))

    async with app.testing() as t:
        await load.later()
        await t.run_until_idle()
        assert done == [0, "slow", 1]


async def test_what_does_not_fit_is_an_error_that_names_the_fix() -> None:
    """It is the same in every run, so that the job is not tried again."""
    app, called = make_app(), list[int]()

    @app.job(queue="rows", durable=True)
    async def load(ctx: Context) -> None:
        def page(n: int) -> str:
            called.append(n)
            return "x" * 5000

        await ctx.step("one", page, 1)
        await ctx.step("two", page, 2)

    async with app.testing(raise_errors=False) as t:
        await load.later()
        await t.run_until_idle()
        (dead,) = t.dead()
    assert called == [1, 2]
    assert "bytes with 'two'" in dead.message
    assert "amqpjobs[sql]" in dead.message
    assert "AMQPJOBS_STORE_URL" in dead.message


async def test_a_dead_letter_carries_what_is_done() -> None:
    """Its replay goes on there."""
    app, done = make_app(), list[str]()
    broken = [True]

    @app.job(queue="rows", durable=True, retry=Retry(attempts=1))
    async def load(ctx: Context) -> None:
        await ctx.step("first", done.append, "first")
        if broken:
            raise OSError("away")
        done.append("end")

    async with app.testing(raise_errors=False) as t:
        handle = await load.later()
        await t.run_until_idle()
        broken.clear()
        assert await app.dead_letters("rows").replay(Selection((handle.id,)))
        await t.run_until_idle()
    assert done == ["first", "end"]


def handlers() -> dict[str, Callable[..., Awaitable[None]]]:
    """One for each method that needs a store."""

    async def other() -> None: ...

    async def calls(ctx: Context) -> None:
        await ctx.call("it", other)  # type: ignore[call-overload]

    async def maps(ctx: Context) -> None:
        await asyncio.gather(ctx.map("it", other, []))  # type: ignore[call-overload]

    async def sleeps(ctx: Context) -> None:
        async def inner() -> None:
            await ctx.sleep("it", 1)

        await inner()

    async def waits(ctx: Context) -> None:
        await ctx.signal("it", int)

    async def books(ctx: Context) -> None:
        async with ctx.step_in(None, "it"):
            pass

    async def undoes(context: Context) -> None:
        await context.step("it", print, undo=other)  # type: ignore[call-overload]

    return {
        "ctx.call": calls, "ctx.map": maps, "ctx.sleep": sleeps, "ctx.signal": waits,
        "ctx.step_in": books, "undo= of context.step": undoes,
    }  # fmt: skip


@pytest.mark.parametrize("what", handlers())
def test_the_rest_is_refused_when_it_is_declared(what: str) -> None:
    """By an error that says where the job is, and what to install."""
    app = make_app()
    with pytest.raises(ConfigurationError) as caught:
        app.job(queue="q", durable=True)(handlers()[what])
    words = str(caught.value)
    assert f"{what} is kept in the store" in words
    assert "amqpjobs[sql]" in words
    assert "AMQPJOBS_STORE_URL" in words
    assert "test_unstored_durable.py" in words


@pytest.mark.parametrize("name", ["call", "map", "sleep", "signal", "step_in", "step"])
async def test_the_rest_is_refused_when_it_is_called(name: str) -> None:
    """What the source of the handler does not show; and the job is not tried again."""
    app = make_app()

    async def ask(context: Context) -> None:
        arguments: dict[str, tuple[Any, ...]] = {
            "call": ("x", ask), "map": ("x", ask, []), "sleep": ("x", 1), "signal": ("x", int),
            "step_in": (None, "x"), "step": ("x", print),
        }  # fmt: skip
        options = {"undo": ask} if name == "step" else {}
        asked = getattr(context, name)(*arguments[name], **options)
        if name == "step_in":
            await asked.__aenter__()
        await asked

    @app.job(queue="q", durable=True)
    async def asks(ctx: Context) -> None:
        await ask(ctx)

    async with app.testing(raise_errors=False) as t:
        await asks.later()
        await t.run_until_idle()
        assert [run.outcome for run in t.runs()] == ["failed"]
        (dead,) = t.dead()
    assert "is kept in the store" in dead.message


def test_words_of_others_are_no_reason_to_refuse() -> None:
    """Such as a method `call` of something else."""
    app = make_app()

    @app.job(queue="q", durable=True)
    async def fine(ctx: Context, name: str) -> None:
        client: Any = name
        client.call("x", undo=1)
        await asyncio.sleep(0)
        await ctx.step("x", client.map)


async def test_what_cannot_be_undone_is_a_dead_letter() -> None:
    """`Undo` ends the job, as `Reject` does."""
    app = make_app()

    @app.job(queue="q", durable=True)
    async def gives_up(ctx: Context) -> None:
        raise Undo("not this one")

    async with app.testing(raise_errors=False) as t:
        await gives_up.later()
        await t.run_until_idle()
        assert [dead.message for dead in t.dead()] == ["not this one"]


async def test_a_worker_says_that_they_are_not_crash_safe(
    broker_43: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Once at its start, and only where there are any."""
    app = app_at(broker_43.url)

    @app.job(queue="q")
    async def plain() -> None: ...

    words = "durable jobs are not crash-safe"
    with caplog.at_level(logging.WARNING):
        async with working(app):
            assert words not in caplog.messages

        @app.job(queue="q", name="lasting", durable=True)
        async def durable(ctx: Context) -> None: ...

        async with working(app):
            (record,) = [record for record in caplog.records if record.message == words]
    assert record.__dict__["jobs"] == ["lasting"]
    assert "amqpjobs[sql]" in record.__dict__["fix"]


def test_a_replay_has_the_steps_before_the_one_that_it_begins_with() -> None:
    """And none if it starts anew, or from a step that never was."""
    steps = [CarriedStep(name, "step", "m", "1") for name in "abc"]
    headers = {"amqpjobs-steps": steps_table(steps)}
    assert steps_of(for_replay(headers)) == steps
    assert steps_of({**headers, **replay_header("b")}) == steps[:1]
    assert steps_of({**headers, **replay_header("x")}) == []
    assert steps_of({**headers, **replay_header(None)}) == []


@pytest.mark.parametrize(
    "header",
    [
        None, 7, "x", {"a": 1}, [7], [{"name": 7, "kind": "step"}], [{"name": "", "kind": "step"}],
        [{"name": "a", "kind": "call"}], [{"name": "a", "kind": "step", "mark": 7}],
        [{"name": "a", "kind": "step", "mark": "m" * 17}],
        [{"name": "a", "kind": "step", "result": 7}], [{"name": "a", "kind": "each", "cursor": 1}],
        [{"name": "a", "kind": "step", "result": "x" * LARGEST_STEPS}], [{"name": "a" * 201}],
    ],
)  # fmt: skip
def test_a_header_that_makes_no_sense_carries_no_steps(header: Any) -> None:
    """Other programs may write it."""
    assert steps_from(header) == []


async def test_steps_that_another_program_wrote_are_validated() -> None:
    """A result that the type of the step does not allow fails the job, and is not returned."""
    app = make_app()

    @app.job(queue="q", durable=True, retry=Retry(attempts=1))
    async def counts(ctx: Context) -> None:
        def three() -> int:
            return 3

        assert await ctx.step("three", three) == 3
        raise AssertionError

    mark = fingerprint((), {})[:16]
    forged = steps_table([CarriedStep("three", "step", mark, '"no number"')])
    async with app.testing(raise_errors=False) as t:
        async with stranger(t.url) as channel:
            headers = {"amqpjobs-steps": forged}
            await publish(channel, "q", b"{}", type="counts", headers=headers)
        await t.run_until_idle()
        (dead,) = t.dead()
    assert "has stored what its type does not allow" in dead.message


async def test_a_job_that_a_durable_job_called_waits_for_a_worker_with_a_store(
    broker_43: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody here could tell that one of its end, and it would wait for ever."""
    app, done, outcomes = app_at(broker_43.url), list[int](), list[str]()

    @app.job(queue="children")
    async def child() -> None:
        done.append(1)

    parent = {"id": "p", "epoch": 0, "step": "a", "part": "call", "n": 0}
    async with (
        app.lifespan(),
        working(app, observers=[lambda _, outcome: outcomes.append(outcome.word)]),
        stranger(broker_43.url) as channel,
    ):
        headers = {"amqpjobs-parent": parent}
        await publish(channel, "children", b"", type="child", headers=headers)
        await until(lambda: outcomes, "it is put off")
    assert (outcomes, done) == (["snoozed"], [])
    assert "called job needs a worker with store" in caplog.messages


def test_nothing_of_sqlalchemy_is_imported() -> None:
    """By an app that runs such a job in a test."""
    program = (
        "import asyncio, sys\n"
        "sys.modules['sqlalchemy'] = None\n"
        "from amqpjobs import App, Context\n"
        "app = App('a')\n"
        "@app.job(queue='q', durable=True)\n"
        "async def f(ctx: Context) -> None:\n"
        "    print(await ctx.step('x', str, 7))\n"
        "async def main():\n"
        "    async with app.testing() as t:\n"
        "        await f.later()\n"
        "        await t.run_until_idle()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"7\n"), done.stderr
