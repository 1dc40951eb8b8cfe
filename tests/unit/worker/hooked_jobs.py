"""An app whose hooks and lifespan write what they do into a file; for programs and processes."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import anyio

from amqpjobs import INJECTED, App, Depends

LEDGER = "HOOKED_LEDGER"
HANGS = "HOOKED_HANGS"

held: ContextVar[str] = ContextVar("held", default="")


def note(what: str) -> None:
    with Path(os.environ[LEDGER]).open("a") as ledger:
        ledger.write(f"{what}\n")


@asynccontextmanager
async def resources(app: App) -> AsyncIterator[str]:
    token = held.set("pool")
    async with anyio.create_task_group() as group:
        note("open")
        yield held.get()
        group.cancel_scope.cancel()
    held.reset(token)
    note("close")


app = App("hooked-jobs", lifespan=resources)


@app.on_start
async def start() -> None:
    note(f"start with {app.resources()}")


@app.on_stop
async def stop() -> None:
    note("stop")
    if os.environ.get(HANGS):
        await asyncio.Event().wait()


@app.job(queue="hooked-jobs")
async def use(pool: Annotated[str, Depends(app.resources)] = INJECTED) -> str:
    note("run")
    return f"{pool} {held.get()}"


@app.job(queue="hooked-jobs", cpu=True)
def use_in_process(pool: Annotated[str, Depends(app.resources)] = INJECTED) -> str:
    note("run")
    return f"{pool} {held.get()}"


@app.job(queue="hooked-jobs")
async def hold() -> None:
    note("run")
    await asyncio.Event().wait()
