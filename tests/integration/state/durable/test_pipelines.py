"""Pipelines, in the kit: jobs one after the other and side by side, on rows of the store."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import func, select

from amqpjobs import App, Context, Cron, Message, Pipeline, Queue, Retry, Selection, Unique, group
from amqpjobs.errors import ConfigurationError, InvalidArguments, JobFailed
from amqpjobs.jobs.message import pipeline as plans
from amqpjobs.jobs.registry import MOST_PIPELINES
from amqpjobs.state.memory import memory_of
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate
from amqpjobs.state.store.tables import durable
from tests.integration.state.test_outbox import shop
from tests.support.brokers.broker_server import VirtualHost
from tests.support.workers import app_at, working


class Picture(BaseModel):
    name: str
    width: int
    price: Decimal = Decimal("1.10")


class Gallery:
    """An app whose jobs may follow each other, and what they did."""

    def __init__(self, app: App | None = None, attempts: int = 1) -> None:
        self.app, self.done = app or App("gallery", retry=Retry(attempts=attempts)), list[str]()
        self.refused = {"bad"}
        app, done = self.app, self.done

        @app.job(queue="files")
        async def download(name: str) -> bytes:
            done.append(f"download {name}")
            return name.encode()

        @app.job(queue=Queue("pictures", priorities={"high": 3, "normal": 2, "low": 1}))
        async def shrink(ctx: Context, data: bytes, width: int, sharp: bool = False) -> Picture:
            done.append(f"shrink {data.decode()}{' sharply' if sharp else ''}")
            if data.decode() in self.refused:
                raise ValueError("no picture")
            return Picture(name=data.decode(), width=width)

        @app.job(queue="files", keep_result=True)
        async def store(picture: Picture) -> Picture:
            done.append(f"store {picture.name}")
            return picture

        @app.job(queue="files")
        async def album(pictures: list[Picture], title: str = "") -> str:
            done.append("album")
            return f"{title}{[picture.name for picture in pictures]}"

        @app.job(queue="files")
        async def length(word: str) -> int:
            return len(word)

        self.download, self.shrink, self.store = download, shrink, store
        self.album, self.length = album, length

    def stored(self, name: str, width: int = 200) -> Pipeline[Picture]:
        """A picture on its way."""
        return self.download.message(name).then(self.shrink, width).then(self.store)


async def test_the_result_of_a_job_is_the_first_argument_of_the_next():
    """Each on its own queue, once; the result of the last one comes back typed."""
    here = Gallery()
    async with here.app.testing() as t:
        handle = await here.app.enqueue(here.stored("cat"))
        await t.run_until_idle()
        assert here.done == ["download cat", "shrink cat", "store cat"]
        assert await handle.result() == Picture(name="cat", width=200)
        assert handle.queue == "files"
        assert [(each.job, each.queue) for each in t.enqueued()] == [
            ("amqpjobs.pipeline/store", "files"),
            ("download", "files"),
            ("shrink", "pictures"),
            ("store", "files"),
        ]
        assert t.results(here.store) == [Picture(name="cat", width=200)]


async def test_while_it_waits_it_holds_nothing():
    """It is a row: one run between two jobs, and each has ended by the next one."""
    here = Gallery()
    async with here.app.testing() as t:
        pipeline = here.download.with_options(delay=60).message("cat").then(here.shrink, 1)
        await here.app.enqueue(pipeline)
        await t.run_until_idle()
        assert [run.outcome for run in t.runs()] == ["suspended"]
        await t.advance(61)
        outcomes = [run.outcome for run in t.runs() if run.job == "amqpjobs.pipeline/shrink"]
        assert outcomes == ["suspended", "suspended", "done"]


async def test_a_group_runs_side_by_side_and_its_results_are_joined_in_order():
    """Whichever ends first; further arguments of the joining job come behind them."""
    here = Gallery()
    first, second = asyncio.Event(), asyncio.Event()

    @here.app.job(queue="words")
    async def slow(word: str) -> str:
        first.set()
        await second.wait()
        return word

    @here.app.job(queue="words")
    async def fast(word: str) -> str:
        await first.wait()
        second.set()
        return word

    @here.app.job(queue="words")
    async def joined(words: Sequence[str], between: str) -> str:
        return between.join(words)

    async with here.app.testing():
        pipeline = group(slow.message("a"), fast.message("b")).then(joined, "+")
        assert await here.app.request(pipeline) == "a+b"


async def test_results_of_a_group_are_a_tuple_or_a_list_each_of_its_type():
    """A tuple of up to five messages; a list of an iterable, or of more."""
    here = Gallery()
    async with here.app.testing():
        cat = Picture(name="cat", width=200)
        mixed = group(here.stored("cat"), here.length.message("cat"))
        assert await here.app.request(mixed) == (cat, 3)
        assert await here.app.request(group([here.stored("cat")])) == [cat]
        six = group(*[here.length.message("a" * n) for n in range(6)])
        assert await here.app.request(six) == [0, 1, 2, 3, 4, 5]
        nested = group(mixed, group(here.length.message(word) for word in ("a", "bc")))
        assert await here.app.request(nested) == ((cat, 3), [1, 2])
        assert mixed.job == "amqpjobs.pipeline/(store, length)"
        assert nested.job == "amqpjobs.pipeline/((store, length), [length])"


async def test_what_is_known_of_one_is_forgotten_in_time():
    """Also in an app that declares no durable job, whose store others may use, too."""
    here = Gallery()

    async def rows() -> int:
        store = await memory_of(here.app.client).store()
        found = await store.run(lambda c: c.scalar(select(func.count()).select_from(durable)))
        return found or 0

    async with here.app.testing() as t:
        await here.app.enqueue(here.stored("cat"))
        await t.run_until_idle()
        assert await rows() == 1
        await t.advance(here.app.settings.inbox_ttl + 1)
        await here.app.enqueue(here.stored("dog"))
        await t.run_until_idle()
        assert await rows() == 1


async def test_what_its_name_cannot_say_comes_back_as_json():
    """Of a list of different jobs, and of a name that would be too long."""
    here = Gallery()
    long = here.app.job(queue="files", name="l" * 250)

    @long
    async def picture(name: str) -> Picture:
        return Picture(name=name, width=1)

    @here.app.job(queue="files")
    async def named(name: str) -> str:
        return name

    async with here.app.testing():
        parts: list[Message[Any]] = [here.length.message("abc"), picture.message("cat")]
        as_json = {"name": "cat", "width": 1, "price": "1.10"}
        assert await here.app.request(group(parts)) == [3, as_json]
        assert await here.app.request(named.message("cat").then(picture)) == as_json


async def test_groups_and_pipelines_are_parts_of_others():
    """At any depth; the steps have the numbers of their places."""
    here = Gallery()
    async with here.app.testing() as t:
        inner = group(here.stored("cat"), here.stored("dog")).then(here.album, title="pets ")
        outer = group(inner.then(here.length), here.length.message("abc"))

        @here.app.job(queue="files")
        async def total(counts: list[int]) -> int:
            return sum(counts)

        await here.app.enqueue(outer.then(total))
        await t.run_until_idle()
        assert t.results(total) == [len("pets ['cat', 'dog']") + 3]
        assert sorted(here.done) == sorted([
            "download cat", "shrink cat", "store cat", "download dog", "shrink dog", "store dog",
            "album",
        ])  # fmt: skip


async def test_a_failure_in_the_middle_ends_it_at_once():
    """Both are dead letters: the job, and the pipeline, which is not tried again for it."""
    here = Gallery(attempts=2)
    async with here.app.testing(raise_errors=False) as t:
        handle = await here.app.enqueue(here.stored("bad"))
        await t.run_until_idle()
        await t.advance(60)
        assert here.done == ["download bad", "shrink bad", "shrink bad"]
        assert {(dead.job, dead.queue, dead.attempt, dead.message) for dead in t.dead()} == {
            ("shrink", "pictures", 2, "no picture"),
            ("amqpjobs.pipeline/store", "files", 1, "no picture"),
        }
        with pytest.raises(JobFailed) as failed:
            await handle.result()
        assert failed.value.error == "amqpjobs.errors.JobFailed"


async def test_a_dead_pipeline_that_is_replayed_goes_on_where_it_was():
    """What is done is not done again; the job that has failed runs again."""
    here = Gallery()
    async with here.app.testing(raise_errors=False) as t:
        await here.app.enqueue(here.stored("bad"))
        await t.run_until_idle()
        here.refused.clear()
        await here.app.dead_letters("files").replay(Selection())
        await t.run_until_idle()
        assert here.done == ["download bad", "shrink bad", "shrink bad", "store bad"]
        assert t.results(here.store) == [Picture(name="bad", width=200)]


async def test_a_group_in_which_several_fail_ends_at_once():
    """With the error of one of them."""
    here = Gallery(attempts=3)
    here.refused |= {"worse"}
    async with here.app.testing(raise_errors=False) as t:
        await here.app.enqueue(group(here.stored("bad"), here.stored("worse")).then(here.album))
        await t.run_until_idle()
        await t.advance(600)
        dead = [dead for dead in t.dead() if dead.job == "amqpjobs.pipeline/album"]
        assert [(each.attempt, each.message) for each in dead] == [(1, "no picture")]
        assert "album" not in here.done


async def test_a_result_that_does_not_fit_the_next_job_is_a_dead_letter_of_that():
    """Nothing is tried again: it would not fit the next time."""
    here = Gallery(attempts=3)
    wrong: Any = here.length.message("abc")
    async with here.app.testing(raise_errors=False) as t:
        await here.app.enqueue(wrong.then(here.store))
        await t.run_until_idle()
        assert {(dead.job, dead.reason, dead.attempt) for dead in t.dead()} == {
            ("store", "invalid", 1),
            ("amqpjobs.pipeline/store", "failed", 1),
        }


async def test_options_of_its_messages_hold_for_their_jobs():
    """Priority, tags, headers, retries, and callbacks. The pipeline has the priority of its first
    message."""
    here, seen = Gallery(), list[Any]()

    @here.app.job(queue=Queue("pictures"))
    async def look(ctx: Context, name: str) -> str:
        seen.append((ctx.tags, ctx.headers.get("tenant"), ctx.timeout, ctx.will_retry))
        return name

    look = look.with_options(
        priority="high", tags=("t",), headers={"tenant": "acme"}, retry=Retry(attempts=2),
        run_timeout=5, on_success=here.length.message("callback"),
    )  # fmt: skip
    async with here.app.testing() as t:
        await here.app.enqueue(look.message("cat").then(look))
        await t.run_until_idle()
        assert seen == [(("t",), "acme", 5.0, True)] * 2
        assert [each.queue for each in t.enqueued() if each.job != "length"] == [
            "pictures.high"
        ] * 3
        assert t.results(here.length) == [8, 8]


async def test_a_request_of_one_gets_its_result_or_its_error():
    """The reply address goes along while it waits as a row."""
    here = Gallery()
    async with here.app.testing(raise_errors=False):
        assert await here.app.request(here.stored("cat")) == Picture(name="cat", width=200)
        with pytest.raises(JobFailed, match="no picture"):
            await here.app.request(here.stored("bad"))


async def test_synchronous_code_sends_one():
    """By a blocking client."""
    here = Gallery()
    async with here.app.testing():

        def ask() -> tuple[Picture, Picture]:
            with here.app.blocking() as client:
                handle = client.later(here.stored("dog"))
                return client.request(here.stored("cat"), timeout=10), handle.result(timeout=10)

        assert [each.name for each in await asyncio.to_thread(ask)] == ["cat", "dog"]


async def test_a_transaction_sends_one(store_url: str):
    """After its commit."""
    async with shop(store_url) as shopping:
        here = Gallery(shopping.app)
        async with here.app.testing() as t:
            async with shopping.sessions.begin() as session:
                await here.app.within(session).enqueue(here.stored("cat"))
            assert t.enqueued() == []
            await t.run_until_idle()
            assert here.done == ["download cat", "shrink cat", "store cat"]


async def test_a_durable_job_calls_one():
    """And is given its result, typed."""
    here = Gallery()

    @here.app.job(queue="orders", durable=True)
    async def frame(ctx: Context, name: str) -> int:
        picture = await ctx.call("picture", here.stored(name))
        one, two = await ctx.call("both", group(here.stored("dog"), here.length.message("abc")))
        return picture.width + one.width + two

    async with here.app.testing() as t:
        await frame.later("cat")
        await t.run_until_idle()
        assert t.results(frame) == [403]


async def test_one_that_waits_is_cancelled():
    """With the job that it waits for."""
    here = Gallery()
    async with here.app.testing() as t:
        later = here.download.with_options(delay=60).message("cat").then(here.shrink, 1)
        handle = await here.app.enqueue(later)
        await t.run_until_idle()
        await handle.cancel(reason="no cats")
        await t.run_until_idle()
        await t.advance(61)
        assert [(run.job, run.outcome) for run in t.runs()] == [
            ("amqpjobs.pipeline/shrink", "suspended"),
            ("amqpjobs.pipeline/shrink", "cancelled"),
            ("download", "cancelled"),
        ]


async def test_a_schedule_sends_none():
    """It keeps jobs by their names: a durable job that calls one is sent."""
    here = Gallery()
    async with here.app.testing():
        with pytest.raises(ConfigurationError, match="a durable job that calls it"):
            await here.app.schedules.put("nightly", Cron("@daily"), here.stored("cat"))


async def test_a_callback_may_be_one():
    """It travels with the job, as any message does."""
    here = Gallery()
    async with here.app.testing() as t:
        await here.length.with_options(on_success=here.stored("cat")).later("abc")
        await t.run_until_idle()
        assert here.done == ["download cat", "shrink cat", "store cat"]


async def test_a_method_follows_with_its_object():
    """The object travels, and the result is its first argument."""
    here = Gallery()

    @dataclass
    class Frame:
        colour: str

        @here.app.job(queue="files")
        async def around(self, picture: Picture, hooks: int) -> str:
            return f"{self.colour} around {picture.name}, {hooks} hooks"

    async with here.app.testing():
        pipeline = here.stored("cat").then(Frame("red").around, 2)
        assert await here.app.request(pipeline) == "red around cat, 2 hooks"


async def test_one_pipeline_is_sent_many_times():
    """It is a value: each publish is a job, and what follows changes nothing of what was before."""
    here = Gallery()
    pipeline = here.stored("cat")
    body, longer = pipeline.body, pipeline.then(here.store)
    assert (pipeline.body, longer.id == pipeline.id) == (body, False)
    async with here.app.testing() as t:
        await here.app.later_many([pipeline, replace(pipeline, id="mine")])
        await t.run_until_idle()
        assert here.done.count("store cat") == 2
        assert {run.id for run in t.runs() if run.outcome == "suspended"} == {
            pipeline.id,
            "mine",
        }


async def test_a_worker_runs_one_whose_jobs_others_know(store_url: str, broker_43: VirtualHost):
    """Over RabbitMQ: results pass it as JSON, and the caller gets what it knows them to be."""

    def app_with(*queues: str) -> tuple[App, dict[str, Any]]:
        app, jobs = app_at(broker_43.url, store_url=store_url), dict[str, Any]()
        if "files" in queues:

            @app.job(queue="files")
            async def download(name: str) -> bytes:
                return name.encode()

            jobs["download"] = download
        if "pictures" in queues:

            @app.job(queue="pictures")
            async def shrink(data: bytes, width: int) -> Picture:
                if data == b"bad":
                    raise ValueError("no picture")
                return Picture(name=data.decode(), width=width)

            jobs["shrink"] = shrink
        return app, jobs

    caller, jobs = app_with("files", "pictures")
    engine = open_engine(caller.settings)
    await migrate(engine)
    await engine.dispose()
    files, pictures = app_with("files")[0], app_with("pictures")[0]

    def picture(name: str) -> Message[Picture]:
        return jobs["download"].message(name).then(jobs["shrink"], 200)

    async with caller.lifespan(), working(files), working(pictures):
        both = await caller.request(group(picture("cat"), picture("dog")), timeout=30)
        assert both == (Picture(name="cat", width=200), Picture(name="dog", width=200))
        with pytest.raises(JobFailed, match="no picture"):
            await caller.request(group(picture("cat"), picture("bad")), timeout=30)


def test_what_cannot_follow_is_refused_where_it_is_written() -> None:
    """By an error that says what to write."""
    here = Gallery()
    app, first = here.app, here.download.message("cat")

    @app.job(queue="files")
    async def nothing() -> None: ...

    @app.job(queue="files", unique=Unique())
    async def alone(data: bytes) -> None: ...

    wrong: Any
    with pytest.raises(ConfigurationError, match="takes a job and its arguments"):
        wrong = len
        first.then(wrong)
    with pytest.raises(ConfigurationError, match="takes no argument"):
        wrong = nothing
        first.then(wrong)
    with pytest.raises(ConfigurationError, match="unique= or debounce="):
        first.then(alone)
    with pytest.raises(ConfigurationError, match="leave id= out"):
        first.then(here.shrink.with_options(id="mine"), 200)
    with pytest.raises(ConfigurationError, match="leave id= out"):
        here.download.with_options(id="mine").message("cat").then(here.shrink, 200)


def test_further_arguments_are_validated_where_they_are_given() -> None:
    """By the annotations of the job that follows."""
    here = Gallery()
    then: Any = here.download.message("cat").then
    with pytest.raises(InvalidArguments, match="width"):
        then(here.shrink, "wide")
    with pytest.raises(InvalidArguments, match="missing a required argument: 'width'"):
        then(here.shrink)
    with pytest.raises(InvalidArguments, match="unexpected keyword argument 'data'"):
        then(here.shrink, 200, data=b"")
    with pytest.raises(InvalidArguments, match="too many positional arguments"):
        then(here.store, 200)


def test_a_group_has_messages() -> None:
    """An empty one has no queue to run on."""
    here, wrong = Gallery(), list[Any]([Gallery().length])
    with pytest.raises(ConfigurationError, match="a group of no jobs"):
        group()
    with pytest.raises(ConfigurationError, match="a group of no jobs"):
        group(here.length.message(word) for word in "")
    with pytest.raises(ConfigurationError, match="a group has messages"):
        group(wrong)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is sent."""
    monkeypatch.setattr(plans, "has_store", lambda: False)
    with pytest.raises(ConfigurationError, match=r"AMQPJOBS_STORE_URL.*amqpjobs\[sql\]"):
        Gallery().stored("cat")


def test_an_app_does_not_show_the_job_that_runs_them() -> None:
    """Nor does it import what it needs, until there is one."""
    code = """
import sys
from amqpjobs import App
app = App("shop")
@app.job(queue="files")
async def download(name: str) -> str: ...
print(*app.jobs, *(name for name in ("amqpjobs.jobs.pipelines", "sqlalchemy")
                   if name in sys.modules))
download.message("a").then(download)
print("sqlalchemy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "download\nFalse\n"


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"steps": []},
        {"steps": [3]},
        {"steps": [{"job": "length"}]},
        {"steps": [{"follows": True, "job": "length", "queue": "files", "body": "{}", "id": "1"}]},
        {"steps": [{"job": "length", "queue": "amq.gen", "body": "{}", "id": "1"}]},
        {"steps": [{"group": [3]}]},
        {"steps": [{"group": 3}]},
    ],
)
async def test_a_plan_that_makes_no_sense_is_a_dead_letter(plan: dict[str, Any]):
    """Anybody who may publish can have written it: it is not tried again."""
    here = Gallery(attempts=3)
    async with here.app.testing(raise_errors=False) as t:
        sent = replace(here.stored("cat"), body=json.dumps(plan).encode())
        await here.app.enqueue(sent)
        await t.run_until_idle()
        assert [(dead.reason, dead.attempt) for dead in t.dead()] == [("rejected", 1)]
        assert "is malformed" in t.dead()[0].message


def test_names_that_strangers_make_up_take_no_memory() -> None:
    """Few kinds are kept; any name has a job."""
    registry = Gallery().app.client.runtime.registry
    for n in range(MOST_PIPELINES + 10):
        assert registry.known(f"amqpjobs.pipeline/({n}, [], store") is not None
    assert len(registry._pipelines) <= MOST_PIPELINES
    assert registry.known("store the picture") is None
