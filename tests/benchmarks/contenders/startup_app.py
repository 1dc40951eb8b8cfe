"""The app that startup.py launches `amqpjobs consume` with: its job notes when it is done.

Run as a script, it enqueues one such job.
"""

import asyncio
import os
import time
from pathlib import Path

from amqpjobs import App, Queue

app = App("bench")


@app.job(queue=Queue(os.environ["BENCH_QUEUE"]))
async def note(number: int) -> None:
    """Write the moment, on the clock that processes of one machine share."""
    mark = Path(os.environ["BENCH_MARK"])
    unfinished = mark.with_suffix(".tmp")
    unfinished.write_text(repr(time.perf_counter()))
    unfinished.rename(mark)  # whoever polls for it never reads half a number


async def enqueue() -> None:
    async with app.lifespan():
        await note.later(1)


if __name__ == "__main__":
    asyncio.run(enqueue())
