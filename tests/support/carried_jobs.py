"""A job that says what its message carries, in a module that the process of a job can import."""

import asyncio
import os
import time
from typing import Any

from amqpjobs import App, CloudEvent, CloudEventOf, Context, MsgPack, Queue, Retry

app = App("carried", retry=Retry(attempts=1))
queue = Queue("carried", type="classic")


@app.job(queue=queue)
async def carried(ctx: Context) -> dict[str, Any]:
    """The same wherever it runs, but for the process."""
    return {"pid": os.getpid(), "headers": dict(ctx.headers), "tags": list(ctx.tags)}


@app.job(queue=queue, timeout=60)
async def endless(ctx: Context) -> None:
    """Runs until its time is over."""
    await asyncio.Event().wait()


@app.job(queue=queue, cpu=True)
def endless_process(ctx: Context) -> None:
    """The same in a process."""
    while True:
        time.sleep(0.1)


@app.job(queue=queue, cpu=True)
def reversed_bytes(data: bytes) -> dict[str, bytes]:
    """With the process that did it."""
    return {"data": data[::-1], "pid": str(os.getpid()).encode()}


@app.job(queue=queue, cpu=True, body=MsgPack)
def packed_in_a_process(data: dict[str, bytes]) -> dict[str, bytes]:
    """What a process reads of MessagePack."""
    return {"data": data["raw"][::-1], "pid": str(os.getpid()).encode()}


@app.job(queue=queue, cpu=True, body=CloudEvent(mode="binary"))
def event_in_a_process(event: CloudEventOf[bytes]) -> dict[str, bytes]:
    """What a process reads of an event whose attributes are headers."""
    return {"data": event.data[::-1], "type": event.type.encode()}
