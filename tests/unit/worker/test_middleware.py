"""Processing middleware in a worker: what it sees, what it may change, and where it is declared."""

import asyncio
from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from amqpjobs import App, Context, Queue, Reject, Retry, RetryAfter, Snooze
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.run_context import plain_context
from tests.unit.worker.middleware_jobs import app as cpu_app
from tests.unit.worker.middleware_jobs import changes, doubled, halved, hopeful

NEVER = Retry(attempts=1)


class Order(BaseModel):
    id: int
    email: str = "ada@example.org"


def noting(name, seen):
    async def middleware(call_next, context):
        seen.append(f"{name} in")
        try:
            return await call_next(context)
        finally:
            seen.append(f"{name} out")

    return middleware


async def test_the_order_is_app_queue_job_handler():
    """The widest is the outermost."""
    seen = []
    app = App("a", processing=[noting("app", seen)])
    queue = Queue("q", middleware=[noting("queue", seen)])

    @app.job(queue=queue, middleware=[noting("job 1", seen), noting("job 2", seen)])
    async def job() -> None:
        seen.append("handler")

    @app.job(queue="other")
    async def other() -> None:
        seen.append("other")

    async with app.testing() as t:
        await job.later()
        await t.run_until_idle()
        assert seen == [
            "app in", "queue in", "job 1 in", "job 2 in", "handler",
            "job 2 out", "job 1 out", "queue out", "app out",
        ]  # fmt: skip
        seen.clear()
        await other.later()
        await t.run_until_idle()
        assert seen == ["app in", "other", "app out"]


def test_a_job_without_middleware_is_direct():
    """Whatever other jobs have."""
    app = App("a")

    @app.job(queue="q", middleware=[noting("m", [])])
    async def around() -> None: ...

    @app.job(queue="q")
    async def direct() -> None: ...

    assert (app.jobs["around"].direct, app.jobs["direct"].direct) == (False, True)


@pytest.mark.parametrize("wrong", [noting("m", []), ["m"], [None]])
def test_middleware_is_a_list_of_functions(wrong):
    """What is none fails where it is declared, and the error says what to write."""
    app = App("a")
    with pytest.raises(ConfigurationError, match="list of functions"):
        app.job(queue="q", middleware=wrong)(lambda: None)
    with pytest.raises(ConfigurationError, match=r"Queue\('q'\)"):
        Queue("q", middleware=wrong)
    with pytest.raises(ConfigurationError, match="processing is a list"):
        App("a", processing=wrong)


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_the_handler_gets_what_middleware_has_changed(kind):
    """Arguments are validated objects by name; a value may be replaced, and an object changed."""

    async def change(call_next, context):
        order = context.arguments["order"]
        assert (type(order), list(context.arguments)) == (Order, ["order", "times"])
        order.email = "eve@example.org"
        context.arguments["times"] = 2
        return await call_next(context)

    app = App("a", retry=NEVER)
    options = {"queue": "q", "middleware": [change]}
    if kind == "async":

        @app.job(**options)
        async def job(order: Order, /, *, times: int) -> str:
            return order.email * times
    else:

        @app.job(**options)
        def job(order: Order, /, *, times: int) -> str:
            return order.email * times

    async with app.testing() as t:
        await job.later(Order(id=7), times=1)
        await t.run_until_idle()
        assert t.results(job) == ["eve@example.orgeve@example.org"]


async def test_parameters_that_were_left_out_keep_their_defaults():
    """They are not among the arguments, and middleware may give them."""

    async def second(call_next, context):
        assert "b" not in context.arguments
        context.arguments["c"] = 30
        return await call_next(context)

    app = App("a", retry=NEVER)

    @app.job(queue="q", middleware=[second])
    async def job(a: int, b: int = 2, c: int = 3) -> list[int]:
        return [a, b, c]

    async with app.testing() as t:
        await job.later(1)
        await t.run_until_idle()
        assert t.results(job) == [[1, 2, 30]]


async def test_a_method_has_its_object_as_self():
    """As in the message."""
    app = App("a", retry=NEVER)

    async def other(call_next, context):
        context.arguments["self"] = Mail("b")
        return await call_next(context)

    @dataclass
    class Mail:
        to: str

        @app.job(queue="q", middleware=[other])
        async def send(self, words: str) -> str:
            return f"{self.to} {words}"

    async with app.testing() as t:
        await Mail("a").send.later("x")
        await t.run_until_idle()
        assert t.results(Mail.send) == ["b x"]


async def test_what_middleware_adds_or_removes_wrongly_is_said():
    """The job has failed, with the name of the parameter."""
    app = App("a", retry=NEVER)

    async def wrong(call_next, context):
        if context.arguments["a"]:
            context.arguments["z"] = 1
        else:
            del context.arguments["a"]
        return await call_next(context)

    @app.job(queue="q", middleware=[wrong])
    async def job(a: int, b: int) -> None: ...

    async with app.testing(raise_errors=False) as t:
        await job.later(1, 2)
        await job.later(0, 2)
        await t.run_until_idle()
        first, second = (str(ran.error) for ran in t.runs(job))
    assert "job has no parameter 'z'; it takes: a, b" in first
    assert "job lacks its parameter 'a'" in second


async def test_a_cpu_job_gets_what_middleware_has_changed():
    """It is validated once more where it runs: what does not fit is said."""
    async with cpu_app.testing(raise_errors=False) as t:
        await doubled.later(4, "x")
        await t.run_until_idle()
        assert t.results(doubled) == ["xxxxxxxxx"]
        changes["words"] = object()
        await doubled.later(4, "x")
        await t.run_until_idle()
        changes.clear()
        assert "words" in str(t.runs(doubled)[-1].error)


async def test_a_cpu_job_whose_arguments_were_only_read_gets_them_as_they_came():
    """Nothing is encoded again, which another program's message may not survive."""
    async with cpu_app.testing() as t:
        await halved.later(4)
        await t.run_until_idle()
        assert t.results(halved) == [2]


async def test_arguments_are_for_middleware():
    """A handler has its parameters."""
    app = App("a")

    @app.job(queue="q")
    async def job(ctx: Context) -> str:
        with pytest.raises(ConfigurationError, match="for processing middleware"):
            _ = ctx.arguments
        return "done"

    async with app.testing() as t:
        await job.later()
        await t.run_until_idle()
        assert t.results(job) == ["done"]


async def test_a_run_says_whether_a_retry_would_follow():
    """By the policy of the job or the app, the attempt, the error and the deadline; to a handler,
    too."""
    seen = []

    async def look(call_next, context):
        retried = [
            context.would_retry(error)
            for error in (OSError(), KeyError(), RetryAfter(1), Snooze(1), Reject("no"))
        ]
        seen.append((context.attempt, context.will_retry, retried))
        return await call_next(context)

    app = App("a", processing=[look], retry=Retry(attempts=2, give_up_on=(KeyError,)))

    @app.job(queue="q")
    async def job(ctx: Context) -> bool:
        if ctx.will_retry:
            raise OSError
        return ctx.will_retry

    @app.job(queue="q", retry=NEVER)
    async def once() -> None: ...

    async with app.testing() as t:
        await job.later()
        await t.run_until_idle()
        await t.advance(60)
        assert seen == [
            (1, True, [True, False, True, True, False]),
            (2, False, [False, False, False, True, False]),
        ]
        assert t.results(job) == [False]
        await once.later()
        await t.run_until_idle()
        assert seen[-1][1:] == (False, [False, False, False, True, False])


async def test_a_process_knows_whether_a_retry_would_follow():
    """By the policy of its call, too."""
    async with cpu_app.testing() as t:
        await hopeful.later()
        await hopeful.with_options(retry=Retry(attempts=2)).later()
        await hopeful.with_options(tags=("x",)).later()
        await t.run_until_idle()
        assert sorted(t.results(hopeful)) == [False, False, True]


async def test_a_plain_call_is_never_retried():
    """There is no worker around it."""
    context = plain_context("job", "id")
    assert not context.will_retry
    assert not context.would_retry(OSError())
    assert context.timeout is None


async def test_the_context_knows_the_timeout_of_its_job():
    """In a thread, too."""
    app = App("a")

    @app.job(queue="q", timeout=30)
    def limited(ctx: Context) -> float | None:
        return ctx.timeout

    async with app.testing() as t:
        await limited.later()
        await t.run_until_idle()
        assert t.results(limited) == [30]


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [(Reject("no"), "rejected"), (Snooze(60), "snoozed"), (RetryAfter(60), "retried")],
)
async def test_middleware_may_end_a_run(verdict, outcome):
    """Before the handler, by a verdict."""

    async def end(call_next, context):
        raise verdict

    app = App("a")

    @app.job(queue="q", middleware=[end])
    async def job() -> None:
        raise AssertionError

    async with app.testing(raise_errors=False) as t:
        await job.later()
        await t.run_until_idle()
        assert [ran.outcome for ran in t.runs(job)] == [outcome]


async def test_middleware_may_answer_itself():
    """Without calling the rest: the job is done, with this result."""

    async def cached(call_next, context):
        return context.arguments["n"] * 100

    app = App("a")

    @app.job(queue="q", middleware=[cached])
    async def job(n: Annotated[int, Field(ge=0)]) -> int:
        raise AssertionError

    async with app.testing():
        assert await job.request(3) == 300


async def test_a_cancellation_from_inside_is_the_failure_of_its_job():
    """Middleware that cancels its own task ends no worker."""

    async def cancel(call_next, context):
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    app = App("a", retry=NEVER)

    @app.job(queue="q", middleware=[cancel])
    async def job() -> None: ...

    @app.job(queue="q")
    async def other() -> str:
        return "other"

    async with app.testing(raise_errors=False) as t:
        await job.later()
        await other.later()
        await t.run_until_idle()
        assert [ran.outcome for ran in t.runs(job)] == ["failed"]
        assert t.results(other) == ["other"]
