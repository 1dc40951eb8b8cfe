"""Jobs for `test_processes`: what a process does with them is what the tests look at."""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attrs
from pydantic import BaseModel

from amqpjobs import App, Context, Reject, RetryAfter, Snooze
from amqpjobs.jobs.run_context import current_context

app = App("cpu-jobs")


class Point(BaseModel):
    x: int
    y: int


class UnusualError(Exception):
    pass


@app.job(queue="cpu", cpu=True)
def swap(point: Point) -> Point:
    return Point(x=point.y, y=point.x)


@app.job(queue="cpu", cpu=True)
def tell(ctx: Context, steps: int) -> list[float]:
    last = ctx.last_progress
    for n in range(steps):
        ctx.progress(n / steps, f"step {n}")
    return list(last[:1]) if last else []


@app.job(queue="cpu", cpu=True)
def pid() -> int:
    return os.getpid()


@app.job(queue="cpu", cpu=True)
def surroundings() -> dict[str, Any]:
    return {
        "path": sys.path,
        "cwd": str(Path.cwd()),
        "session": os.getsid(0),
        "pid": os.getpid(),
        "descriptors": sorted(int(p.name) for p in Path("/proc/self/fd").iterdir()),
    }


@app.job(queue="cpu", cpu=True)
def told(ctx: Context, *, word: str) -> dict[str, Any]:
    assert current_context.get() is ctx
    ctx.log.info("the job says %s", word)
    print("the job prints", word)  # noqa: T201
    return {
        "job": ctx.job,
        "job_id": ctx.job_id,
        "queue": ctx.queue,
        "attempt": ctx.attempt,
        "deadline": ctx.deadline,
        "trace_id": ctx.trace_id,
        "tenant": ctx.message.headers.get("tenant"),
        "stopping": ctx.stopping.is_set(),
    }


class Album(BaseModel):
    title: str

    @app.job(queue="cpu", cpu=True)
    def shout(self, marks: int) -> str:
        return self.title.upper() + "!" * marks


@dataclass(frozen=True, slots=True)
class Square:
    side: int

    @app.job(queue="cpu", cpu=True)
    def area(self) -> int:
        return self.side**2


@attrs.frozen
class Circle:
    radius: int

    @app.job(queue="cpu", cpu=True)
    def twice(self) -> "Circle":
        return Circle(self.radius * 2)


@app.job(queue="cpu", cpu=True)
def fail(message: str) -> None:
    raise UnusualError(message)


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@app.job(queue="cpu", cpu=True)
def fail_oddly(how: str) -> None:
    if how == "broken":
        raise MuteError
    raise UnusualError("\ud83d" if how == "surrogate" else "x" * 10**7)


@app.job(queue="cpu", cpu=True)
def leave() -> None:
    sys.exit(3)


@app.job(queue="cpu", cpu=True)
def reject(how: str) -> Any:
    if how == "raise":
        raise Reject("raised")
    return Reject("returned")


@app.job(queue="cpu", cpu=True)
def later(how: str) -> Any:
    """Whether raised or returned, and of which class."""
    verdict = RetryAfter(3) if "retry" in how else Snooze(1.5)
    if "raise" in how:
        raise verdict
    return verdict


@app.job(queue="cpu", cpu=True)
def limited(ctx: Context) -> None:
    raise ctx.rate_limited(9)


@app.job(queue="cpu", cpu=True)
def lie() -> int:
    return "not a number"  # type: ignore[return-value]


@app.job(queue="cpu", cpu=True)
def unjsonable() -> Any:
    return threading.Lock()


@app.job(queue="cpu", cpu=True)
def large(size: int) -> str:
    return "x" * size


@app.job(queue="cpu", cpu=True)
def hang(directory: Path) -> None:
    """Leave a process of its own behind, and hold the GIL as far as it goes."""
    child = subprocess.Popen(["sleep", "1000"])
    (directory / "child").write_text(str(child.pid))
    announce(directory)
    while True:
        pass


@app.job(queue="cpu", cpu=True)
def family(directory: Path) -> None:
    """Start programs, and processes, in every way that there is."""
    plain = subprocess.Popen(["sleep", "1000"])
    grouped = subprocess.Popen(["sleep", "1000"], process_group=0)
    shell = subprocess.Popen(
        ["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True
    )
    assert shell.stdout is not None
    of_the_shell = int(shell.stdout.readline())
    forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    forked.start()
    pids = (plain.pid, grouped.pid, shell.pid, of_the_shell, forked.pid)
    (directory / "family").write_text(" ".join(map(str, pids)))
    announce(directory)
    time.sleep(1000)


@app.job(queue="cpu", cpu=True)
def wait_for_all() -> int:
    programs = [subprocess.Popen(["true"]) for _ in range(3)]
    waited = 0
    with suppress(ChildProcessError):
        while True:
            os.wait()
            waited += 1
    del programs  # which would have waited for them
    return waited


@app.job(queue="cpu", cpu=True)
def sleep(directory: Path) -> None:
    announce(directory)
    time.sleep(1000)


@app.job(queue="cpu", cpu=True)
def meet(directory: Path, number: int, of: int) -> int:
    """Return when so many have come together."""
    (directory / str(number)).touch()
    while len(list(directory.iterdir())) < of:
        time.sleep(0.005)
    return os.getpid()


@app.job(queue="cpu", cpu=True)
def until_stopped(ctx: Context, directory: Path) -> str:
    announce(directory)
    while not ctx.stopping.is_set():
        time.sleep(0.005)
    return "stopped early"


@app.job(queue="cpu", cpu=True)
def wait_until_stopped(ctx: Context) -> str:
    asyncio.run(asyncio.wait_for(ctx.stopping.wait(), 30))
    return "waited"


@app.job(queue="cpu", cpu=True)
def crash(how: str) -> None:
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(7)
    elif how == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)  # nothing happens: the worker decides
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "fork":
        if os.fork() == 0:
            time.sleep(1000)  # holds the socket open
        os._exit(9)


@app.job(queue="cpu", cpu=True)
def babble() -> None:
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"this is not an answer at all")
        except OSError:
            continue


@app.job(queue="cpu", cpu=True, memory_limit=512 * 2**20)
def fill(megabytes: int) -> int:
    return len(bytearray(megabytes * 2**20)) // 2**20


@app.job(queue="cpu", cpu=True, memory_limit=192 * 2**20)
def fill_with_crumbs() -> int:
    crumbs: Any = []
    while True:
        crumbs = [crumbs]


KEPT: list[bytearray] = []


@app.job(queue="cpu", cpu=True)
def hoard(megabytes: int) -> int:
    KEPT.append(bytearray(megabytes * 2**20))
    return os.getpid()


@app.job(queue="cpu", cpu=True)
def terminate_a_program() -> bool:
    """Whether a program that a job starts can be terminated."""
    child = subprocess.Popen(["sleep", "1000"])
    child.terminate()
    return child.wait(10) == -signal.SIGTERM


def announce(directory: Path) -> None:
    """Write the process id so that it is there as a whole or not at all."""
    (directory / "new").write_text(str(os.getpid()))
    (directory / "new").rename(directory / "pid")
