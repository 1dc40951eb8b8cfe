"""Jobs for `test_quarantine`: importable, so that they can run in another process."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, field_validator

from amqpjobs import App, Context, Reject
from amqpjobs.jobs.run_context import current_context

app = App("suspects")


@app.job(queue="queue")
async def where(ctx: Context, word: str) -> dict[str, Any]:
    await asyncio.sleep(0)
    assert current_context.get() is ctx
    return {"pid": os.getpid(), "word": word, "attempt": ctx.attempt, "job_id": ctx.job_id}


@app.job(queue="queue")
def where_in_a_thread() -> int:
    return os.getpid()


@app.job(queue="queue", cpu=True)
def where_in_a_process() -> int:
    return os.getpid()


@app.job(queue="queue")
async def die(how: str) -> None:
    await asyncio.sleep(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(7)


@app.job(queue="queue")
async def die_if_not_the_first(directory: Path) -> int:
    """As what an earlier job left behind may do."""
    me = directory / str(os.getpid())
    if me.exists():
        os._exit(1)
    me.touch()
    return os.getpid()


@app.job(queue="queue")
async def fail() -> None:
    raise LookupError("as always")


@app.job(queue="queue")
async def reject() -> None:
    raise Reject("no")


class Deadly(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def _kill(cls, value: str) -> str:
        if value == "deadly" and os.environ.get("DEADLY_PID") != str(os.getpid()):
            os._exit(5)
        return value


@app.job(queue="queue")
async def validate(value: Deadly) -> None: ...


@app.job(queue="queue", timeout=0.2)
async def slow(directory: Path) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        (directory / "cleaned up").touch()


@app.job(queue="queue")
async def polite(ctx: Context, directory: Path) -> str:
    (directory / "started").touch()
    await ctx.stopping.wait()
    return "stopped early"


KEPT: list[Any] = []


@app.job(queue="queue")
async def keep_a_client() -> bool:
    """Whether what an earlier job made on the event loop is of use still."""
    if not KEPT:
        KEPT.append((os.getpid(), asyncio.get_running_loop()))
    return KEPT[0][1] is asyncio.get_running_loop()


@app.job(queue="queue")
async def opaque() -> object:
    return asyncio.Event()


@app.job(queue="queue")
def memory_score() -> str:
    return Path("/proc/self/oom_score_adj").read_text().strip()


@app.job(queue="queue")
def hang() -> None:
    time.sleep(1000)


async def one_more(call_next, context):
    context.arguments["n"] += 1
    return await call_next(context)


@app.job(queue="queue", middleware=[one_more])
async def counted(n: int) -> str:
    return f"{n} in {os.getpid()}"
