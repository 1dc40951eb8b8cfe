"""An app with a job of batches, for workers in processes of their own."""

import json
import os
import signal
from pathlib import Path

from amqpjobs import App, Batch, Retry

app = App("batch-jobs", retry=Retry(attempts=1))

POISON, BAD = 13, 17


@app.job(queue="rows", batch=Batch(20, within=0.2))
async def insert(rows: list[int]) -> None:
    """Writes each row into the ledger, in one write; one of them kills its process, one fails."""
    if POISON in rows:
        os.kill(os.getpid(), signal.SIGKILL)
    if BAD in rows:
        raise ValueError(BAD)
    lines = [json.dumps({"event": "done", "n": n, "pid": os.getpid()}) + "\n" for n in rows]
    with Path(os.environ["JOBS_LEDGER"]).open("a") as ledger:  # noqa: ASYNC230 - a small write
        ledger.write("".join(lines))
