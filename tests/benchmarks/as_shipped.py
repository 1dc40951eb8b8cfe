"""Draining a queue by each framework's own command line with its own log, as `peers.py` has it when
it is called with ``--as-shipped``.

Only prefetch, durability and the kind of queue are level: processes, threads and what is logged are
each framework's defaults, and the output goes to a file. Timed from the first handler to the last,
in whatever processes they are; then the worker gets SIGTERM, and the queue must be empty.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import ALL, AMQPJOBS, CONTENDERS, Bench, BenchmarkError, Broker, Contender, until

SHIPPED = CONTENDERS / "shipped"
END = 20.0
"""Seconds for a worker to end after SIGTERM; one that does not is killed, and that is said."""

Command = Callable[[str, int], list[str]]


@dataclass(frozen=True, slots=True)
class Shipped:
    """A framework's worker as its users start it.

    Attributes:
        contender: that fills the queue.
        name: what the tables call it.
        command: of a queue and a prefetch, without the Python in front.
        variables: set for it.
    """

    contender: Contender
    name: str
    command: Command
    variables: tuple[tuple[str, str], ...] = ()


def _amqpjobs(queue: str, prefetch: int) -> list[str]:
    window = str(prefetch)
    return ["amqpjobs", "consume", queue, "--prefetch", window, "--concurrency", window]


def _contender(script: str) -> Contender:
    return next(each for each in ALL if each.script == script)


WORKERS = (
    Shipped(
        AMQPJOBS, "amqpjobs consume", _amqpjobs, (("AMQPJOBS_APP", "with_amqpjobs:app"),)
    ),
    Shipped(
        AMQPJOBS, "amqpjobs consume, log level warning", _amqpjobs,
        (("AMQPJOBS_APP", "with_amqpjobs:app"), ("AMQPJOBS_LOG_LEVEL", "warning")),
    ),
    Shipped(
        _contender("faststream_.py"), "faststream run",
        lambda *_: ["faststream", "run", "with_faststream:app"],
    ),
    Shipped(
        _contender("celery_.py"), "celery worker",
        lambda *_: ["celery", "-A", "with_celery", "worker"],
    ),
    Shipped(_contender("dramatiq_.py"), "dramatiq", lambda *_: ["dramatiq", "with_dramatiq"]),
    Shipped(
        _contender("taskiq_.py"), "taskiq worker",
        lambda *_: ["taskiq", "worker", "with_taskiq:broker"],
    ),
)  # fmt: skip


def chosen(names: str | None) -> list[Shipped]:
    """Those whose contender is named; all if none is."""
    if names is None:
        return list(WORKERS)
    wanted = set(names.split(","))
    return [each for each in WORKERS if each.contender.script.split("_.")[0] in wanted]


async def turn(bench: Bench, broker: Broker, worker: Shipped, options: Any) -> dict[str, Any]:
    """One worker's turn, on a new queue, with its checks."""
    queue = f"bench.shipped.{worker.contender.script.split('_.')[0]}"
    await broker.delete(queue)
    if not worker.contender.declares:
        await broker.declare(queue)
    try:
        await bench.fill(worker.contender, queue, options.count, options.prefetch)
        await broker.expect(queue, options.count)
        await asyncio.sleep(options.settle)
        with tempfile.TemporaryDirectory() as folder:
            done = await _drained(bench, worker, queue, Path(folder), options)
        await broker.expect(queue, 0)
    finally:
        await broker.delete(queue)
    return done


async def _drained(
    bench: Bench, worker: Shipped, queue: str, folder: Path, options: Any
) -> dict[str, Any]:
    variables = {
        "PYTHONPATH": os.pathsep.join((str(SHIPPED), str(CONTENDERS))),
        "AMQPJOBS_URL": bench.url, "BENCH_URL": bench.url, "BENCH_QUEUE": queue,
        "BENCH_PREFETCH": str(options.prefetch), "BENCH_FOLDER": str(folder),
    }  # fmt: skip
    command = worker.command(queue, options.prefetch)
    program = Path(bench.python).parent / command[0]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, *command[1:], stdout=log, stderr=log, start_new_session=True,
            env=os.environ | variables | dict(worker.variables),
        )  # fmt: skip
        try:
            found = await _all_handled(process, folder, options)
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), END)
            ended = process.returncode is not None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if not ended:
        print(f"  {worker.name} did not end within {END:.0f} s", file=sys.stderr)
    seconds = max(each["last"] for each in found) - min(each["first"] for each in found)
    return {
        "rate": options.count / seconds,
        "cpu": sum(each["cpu"] for each in found) / options.count,
        "processes": len(found),
        "log_bytes": (folder / "log").stat().st_size,
    }


async def _all_handled(
    process: asyncio.subprocess.Process, folder: Path, options: Any
) -> Sequence[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    async def complete() -> bool:
        found[:] = [json.loads(each.read_text()) for each in folder.glob("*.json")]
        if process.returncode is not None:
            last = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
            raise BenchmarkError(f"ended with {process.returncode}: {last}")
        return sum(each["count"] for each in found) >= options.count

    await until(complete, "not all were handled", timeout=options.timeout, pause=0.1)
    if sum(each["count"] for each in found) != options.count:
        raise BenchmarkError("more were handled than there were")
    if sum(each["checksum"] for each in found) != options.count * (options.count - 1) // 2:
        raise BenchmarkError("the right number of messages, but not each of them once")
    return found
