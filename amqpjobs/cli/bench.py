"""``amqpjobs bench``: how fast this is here, on this broker, with messages of this size.

Changes when there is more to measure.
"""

import asyncio
import json
import time
import uuid
from typing import Annotated, Any

import typer

from amqpjobs.app import App
from amqpjobs.cli.app_option import JsonOption, UrlOption
from amqpjobs.cli.consume import loop_factory
from amqpjobs.cli.output import print_json, print_rows, say
from amqpjobs.jobs.queue.queue import Queue, lanes_of, put_aside_of

ONE_AT_A_TIME = 1_000
"""Messages of the measurements that wait for each."""

REQUESTS_AT_ONCE = 100

WARM_UP = 100
"""Requests before those that are measured: the first one makes the reply queue."""


def bench(
    count: Annotated[int, typer.Option("--count", "-n", min=100, help="Messages.")] = 20_000,
    size: Annotated[int, typer.Option("--size", min=2, help="Bytes of a message's body.")] = 100,
    prefetch: Annotated[
        int, typer.Option("--prefetch", min=1, help="Deliveries held, and jobs at once.")
    ] = 200,
    force: Annotated[
        bool,
        typer.Option("--force", help="Delete its queues also right after the start of a node."),
    ] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Measure publishing and consuming on queues of its own.

    In one process, on queues that are deleted afterwards. Every message is persistent and
    confirmed, on a quorum queue; every job is validated, and acked after its handler returned.
    """
    from amqpjobs.settings import load_settings

    settings = load_settings(url=url, concurrency=prefetch, prefetch=prefetch)
    measure = _Measurement(App("amqpjobs-bench", settings=settings), count, size, force=force)
    with asyncio.Runner(loop_factory=loop_factory(settings)) as runner:
        rows = runner.run(measure.run())
        loop = type(runner.get_loop()).__module__.partition(".")[0]
    if as_json:
        print_json({"loop": loop, "count": count, "size": size, "results": rows})
        return
    columns = ("measurement", "per_second", "p50_ms", "p99_ms")
    print_rows(rows, columns, as_json=False, empty="")
    say(f"one process on {loop}, {count} messages of {size} bytes, prefetch {prefetch}")


class _Measurement:
    """A queue with one job that does nothing, and what is measured on it."""

    def __init__(self, app: App, count: int, size: int, *, force: bool) -> None:
        self._app = app
        self._force = force
        self._count = count
        self._text = "x" * max(0, size - 2)
        self._left = 0
        self._done = asyncio.Event()
        self._starts: list[float] = []
        # A name that nobody else can have: what is deleted at the end was made here.
        self._queue = Queue(f"amqpjobs.bench.{uuid.uuid4().hex}")

        @app.job(queue=self._queue, name="nothing")
        async def nothing(text: str) -> None:
            self._starts.append(time.perf_counter())
            self._left -= 1
            if self._left == 0:
                self._done.set()

        self._job = nothing
        assert len(json.dumps(self._text)) == max(2, size)  # noqa: S101 - the body as promised

    async def run(self) -> list[dict[str, Any]]:
        async with self._app.lifespan():
            try:
                return [
                    await self._publish(),
                    await self._consume(),
                    await self._publish_one_at_a_time(),
                    await self._enqueue_to_start(),
                    await self._request(),
                    await self._request_one_at_a_time(),
                ]
            finally:
                await self._delete()

    async def _publish(self) -> dict[str, Any]:
        began = time.perf_counter()
        await self._app.later_many(self._job.message(self._text) for _ in range(self._count))
        return {"measurement": "publish, confirmed", **_rate(self._count, began)}

    async def _consume(self) -> dict[str, Any]:
        self._expect(self._count)
        async with _Working(self._app):
            began = time.perf_counter()
            await self._done.wait()
            return {"measurement": "consume, acked", **_rate(self._count, began)}

    async def _publish_one_at_a_time(self) -> dict[str, Any]:
        times, whole = [], time.perf_counter()
        for _ in range(ONE_AT_A_TIME):
            began = time.perf_counter()
            await self._job.later(self._text)
            times.append(time.perf_counter() - began)
        rate = _rate(ONE_AT_A_TIME, whole)
        self._expect(ONE_AT_A_TIME)
        async with _Working(self._app):
            await self._done.wait()
        return {"measurement": "later, one at a time", **rate, **_percentiles(times)}

    async def _enqueue_to_start(self) -> dict[str, Any]:
        times = []
        async with _Working(self._app) as worker:
            await worker.started()
            for _ in range(ONE_AT_A_TIME):
                self._expect(1)
                began = time.perf_counter()
                await self._job.later(self._text)
                await self._done.wait()
                times.append(self._starts[-1] - began)
        return {"measurement": "enqueue to handler start, idle", **_percentiles(times)}

    async def _request(self) -> dict[str, Any]:
        self._expect(self._count + WARM_UP)
        waiting = iter(range(self._count))

        async def lane() -> None:
            for _ in waiting:
                await self._job.request(self._text)

        async with _Working(self._app):
            for _ in range(WARM_UP):
                await self._job.request(self._text)
            began = time.perf_counter()
            await asyncio.gather(*(lane() for _ in range(REQUESTS_AT_ONCE)))
            return {"measurement": "request, 100 in flight", **_rate(self._count, began)}

    async def _request_one_at_a_time(self) -> dict[str, Any]:
        times = []
        self._expect(ONE_AT_A_TIME)
        async with _Working(self._app) as worker:
            await worker.started()
            for _ in range(ONE_AT_A_TIME):
                began = time.perf_counter()
                await self._job.request(self._text)
                times.append(time.perf_counter() - began)
        return {"measurement": "request, one at a time", **_percentiles(times)}

    def _expect(self, count: int) -> None:
        self._left = count
        self._done.clear()

    async def _delete(self) -> None:
        from amqpjobs.broker.rabbitmq.inspection.queues import (
            connected,
            delete_queues,
            until_deletable,
        )

        if not self._force and (seconds := await until_deletable(self._app.settings)):
            say(
                f"a node of RabbitMQ has just started: the queues of the measurement are deleted "
                f"in {seconds:.0f} s, --force does not wait"
            )
            await asyncio.sleep(seconds)

        # Of its topology these alone: the rest, as `amqpjobs.delay.unroutable`, is shared with
        # every app on the virtual host, and may hold jobs.
        queue = self._queue
        names = [*(lane.queue for lane in lanes_of(queue)), *put_aside_of(queue)]
        async with connected(self._app.settings, "bench") as wire:
            await delete_queues(wire, names)


class _Working:
    """A worker of the app while the block runs."""

    def __init__(self, app: App) -> None:
        from amqpjobs.worker.worker import Worker

        self._worker = Worker(app)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Any:
        self._task = asyncio.ensure_future(self._worker.run())
        return self._worker

    async def __aexit__(self, *_: object) -> None:
        self._worker.stop()
        if self._task is not None:
            await self._task


def _rate(count: int, began: float) -> dict[str, Any]:
    return {"per_second": round(count / (time.perf_counter() - began))}


def _percentiles(times: list[float]) -> dict[str, Any]:
    ordered = sorted(times)
    return {
        "p50_ms": round(ordered[len(ordered) // 2] * 1000, 3),
        "p99_ms": round(ordered[len(ordered) * 99 // 100] * 1000, 3),
    }
