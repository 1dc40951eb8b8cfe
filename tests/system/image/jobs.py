"""The app in the containers: the jobs of `tests.support.jobs`, and such as start processes."""

import os
import subprocess
import sys
import time

from amqpjobs import Context
from tests.support.jobs import app, note, work

__all__ = ["app"]

ORPHAN = "import os, time\nif os.fork() == 0:\n    time.sleep({seconds})"


@app.job(queue=work)
def leave_orphans(ctx: Context, n: int, seconds: float) -> None:
    """Processes whose parents end before them."""
    for _ in range(n):
        subprocess.run(
            [sys.executable, "-S", "-c", ORPHAN.format(seconds=seconds)],
            check=True, start_new_session=True,
        )  # fmt: skip
    note("orphans left", n, ctx)


@app.job(queue=work, cpu=True, timeout=300)
def busy(ctx: Context, n: int) -> None:
    """Runs in a process of its own, which has a child, and does not end by itself."""
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
    note("started", n, ctx)
    while os.getpid():
        time.sleep(1)
