"""The examples that an editor shows on hover: each is run, and its output compared."""

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import amqpjobs
from amqpjobs import (
    App,
    BlockingJobHandle,
    Bytes,
    CloudEvent,
    Context,
    Cron,
    Job,
    JobHandle,
    JobStatus,
    MsgPack,
    Queue,
    Retry,
    ScheduleStatus,
    Text,
    settings,
)
from amqpjobs.client.blocking import BlockingApp
from amqpjobs.contrib.celery import BlockingCeleryTasks, CeleryTasks
from amqpjobs.jobs.durable.steps import Steps
from amqpjobs.jobs.run_context import plain_context
from amqpjobs.state.schedules.scheduling import Schedules
from tests.support.shop import async_engine
from tests.unit.test_public_names import NAMES

SETTINGS = settings.Settings

WITHOUT = {
    *((App, name) for name in ("configure", "placed")),  # for commands and test kits
    (App, "autodiscover"),  # needs a package
    (JobStatus, ""),  # is what is returned, not made
    # A worker calls these; the example of the class shows the job.
    *((kind, name) for kind in (Bytes, Text, MsgPack, CloudEvent) for name in ("dump", "load")),
    *((CloudEvent, name) for name in ("bound", "filled", "received", "sent")),
    *((CeleryTasks, name) for name in ("blocking", "request_task", "send_task")),  # need Celery
    *((BlockingCeleryTasks, name) for name in ("", "request_task", "send_task")),
}
"""What needs no example."""

PARSER = doctest.DocTestParser()
CHECKER = doctest.OutputChecker()


def documented() -> Iterator[tuple[type, str]]:
    """Each class, and each of its public methods."""
    for kind in (*NAMES, SETTINGS):
        yield kind, ""
        for name in NAMES.get(kind, "").split():
            if inspect.isroutine(getattr(kind, name, None)):
                yield kind, name


def docstring(kind: type, name: str) -> str:
    return inspect.getdoc(getattr(kind, name) if name else kind) or ""


CASES = [case for case in documented() if case not in WITHOUT]


def id_of(case: tuple[type, str]) -> str:
    return f"{case[0].__name__}.{case[1]}".rstrip(".")


@asynccontextmanager
async def resources(app: App):
    yield "pool"


def namespace(app: App) -> dict[str, Any]:
    """What the examples take for granted: an app with a job, and a handle of a job that ran."""

    @app.job(queue="reports", keep_result=True)
    async def build_report(month: int) -> str:
        return f"report {month}: 31 orders"

    return {
        **{name: getattr(amqpjobs, name) for name in amqpjobs.__all__},
        "Annotated": Annotated,
        "Settings": SETTINGS,
        "UTC": UTC,
        "datetime": datetime,
        "timedelta": timedelta,
        "app": app,
        "build_report": build_report,
        "orders": amqpjobs.Exchange("orders"),
        "ctx": plain_context("import_rows", "an-id"),
    }


@asynccontextmanager
async def database(folder: Path) -> AsyncIterator[dict[str, Any]]:
    """What the examples on transactions take for granted: models, an engine, its sessions."""

    class Base(DeclarativeBase): ...

    engine = async_engine(f"sqlite:///{folder}/shop.db")
    yield {"Base": Base, "engine": engine, "Sessions": async_sessionmaker(engine)}
    await engine.dispose()


async def make_outbox(app: App, names: dict[str, Any]) -> None:
    app.outbox(names["Base"].metadata, bind=names["engine"])
    async with names["engine"].begin() as connection:
        await connection.run_sync(names["Base"].metadata.create_all)


async def use_the_store(app: App, names: dict[str, Any]) -> None:
    """For what is to be in the database of the store."""
    await names["engine"].dispose()
    names["engine"] = async_engine(app.settings.store_url.get_secret_value())
    names["Sessions"] = async_sessionmaker(names["engine"])


def run(example: doctest.Example, names: dict[str, Any]) -> Any:
    """Run one; a coroutine if it awaits. As at the prompt of `python -m asyncio`."""
    code = compile(example.source, "<example>", "single", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return eval(code, names)  # a coroutine, if the code awaits


def compare(example: doctest.Example, said: str) -> None:
    assert CHECKER.check_output(example.want, said, doctest.ELLIPSIS), (
        f"{example.source}said {said!r}, and the docstring {example.want!r}"
    )


async def run_all(examples: list[doctest.Example], names: dict[str, Any]) -> None:
    for example in examples:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            waiting = run(example, names)
            if inspect.iscoroutine(waiting):
                await waiting
        compare(example, said.getvalue())


def run_in_thread(examples: list[doctest.Example], names: dict[str, Any]) -> None:
    with names["app"].blocking() as client:
        handle = client.later(names["build_report"].message(12))
        handle.result(timeout=10)
        names |= {"client": client, "handle": handle, "blocking_handle": handle}
        for example in examples:
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                assert run(example, names) is None
            compare(example, said.getvalue())


async def run_in_a_durable_job(
    app: App, examples: list[doctest.Example], names: dict[str, Any], folder: Path
) -> None:
    """Run them in the handler of a durable job, which gets the signal that it waits for."""

    @app.job(queue="payments")
    async def charge(order: int) -> str:
        return f"charged {order}"

    @app.job(queue="pictures")
    async def measure(name: str) -> int:
        return {"a.png": 1, "b.png": 2}[name]

    async def fetch_rate(currency: str) -> float:
        return {"EUR": 1.08}[currency]

    async def store(row: int) -> None: ...

    ended: list[bool] = []
    names |= {"charge": charge, "measure": measure, "fetch_rate": fetch_rate, "store": store}

    @app.job(queue="orders", durable=True, retry=Retry(attempts=1))
    async def handler(ctx: Context) -> None:
        await run_all(examples, names | {"ctx": ctx})
        ended.append(True)

    async with database(folder) as more, app.testing(raise_errors=False) as t:

        class Booking(more["Base"]):  # type: ignore[misc]
            __tablename__ = "bookings"
            order: Mapped[int] = mapped_column(primary_key=True)

        names |= more | {"Booking": Booking}
        await use_the_store(app, names)
        async with names["engine"].begin() as connection:
            await connection.run_sync(Booking.metadata.create_all)
        job = await handler.later()
        await job.signal("approval", True)
        await t.run_until_idle()
        await t.advance(3600)
        await names["engine"].dispose()
        assert ended, [dead.message for dead in t.dead()]


@pytest.mark.parametrize("case", CASES, ids=id_of)
async def test_an_example_does_what_it_shows(case: tuple[type, str], tmp_path: Path) -> None:
    """In `app.testing()`; those for synchronous code in a thread."""
    kind, name = case
    examples = PARSER.get_examples(docstring(kind, name))
    assert examples, "it has no example"
    app = App("examples", lifespan=resources)
    names = namespace(app)
    if kind is SETTINGS or (kind is App and not name):
        await run_all(examples, names)
        return
    if kind is Context and hasattr(Steps, name):
        await run_in_a_durable_job(app, examples, names, tmp_path)
        return
    async with database(tmp_path) as more, app.testing(raise_errors=False) as t:
        names |= more
        if name == "within" and kind is not Schedules:
            await make_outbox(app, names)
        if kind in (BlockingApp, BlockingJobHandle):
            await asyncio.to_thread(run_in_thread, examples, names)
            return
        names["handle"] = await names["build_report"].later(12)
        await t.run_until_idle()
        if kind in (Schedules, ScheduleStatus):
            put = app.schedules.put("tenant-7", Cron("@daily"), names["build_report"].message(7))
            names["status"] = await put
            await use_the_store(app, names)
        try:
            await run_all(examples, names)
        finally:
            await names["engine"].dispose()


def test_the_examples_are_of_what_users_see_first() -> None:
    """These six, and their siblings."""
    shown = {kind for kind, name in CASES if not name}
    assert shown >= {App, Job, Queue, Retry, Context, JobHandle, BlockingApp, BlockingJobHandle}
