"""How long starting takes.

Measured:

    import  milliseconds that `import amqpjobs` adds to `python -c pass`, both run in turns; also
            `import aio_pika`, for scale
    launch  seconds from launching `amqpjobs consume QUEUE --app startup_app:app` to the end of its
            first job, which is already waiting, with the broker up

Byte code is compiled beforehand by a first run that is not counted.
"""

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import (
    CONTENDERS,
    BenchmarkError,
    Broker,
    environment,
    parser,
    started,
    table,
    until,
    write,
)

MODULES = ("amqpjobs", "aio_pika")
QUEUE = "bench.startup"


async def timed(python: str, code: str) -> float:
    """Seconds that `python -c code` runs."""
    begin = time.perf_counter()
    async with started([python, "-c", code]) as process:
        _, err = await process.communicate()
    if process.returncode:
        last = err.decode(errors="replace").strip().splitlines()[-1]
        raise BenchmarkError(f"{code}: {last}")
    return time.perf_counter() - begin


async def imports(python: str, rounds: int) -> dict[str, float]:
    """Median milliseconds that each module's import adds to the interpreter's start."""
    codes = {module: f"import {module}" for module in MODULES}
    seconds: dict[str, list[float]] = {code: [] for code in ["pass", *codes.values()]}
    for code in seconds:
        await timed(python, code)
    for _ in range(rounds):
        for code, times in seconds.items():
            times.append(await timed(python, code))
    bare = statistics.median(seconds["pass"])
    return {
        module: (statistics.median(seconds[code]) - bare) * 1e3 for module, code in codes.items()
    }


async def launch(url: str, python: str) -> float:
    """Seconds from launch to the end of the first job."""
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "mark"
        settings = {
            "AMQPJOBS_URL": url,
            "BENCH_QUEUE": QUEUE,
            "BENCH_MARK": str(mark),
            "PYTHONPATH": str(CONTENDERS),
        }
        async with started([python, str(CONTENDERS / "startup_app.py")], **settings) as publisher:
            _, err = await publisher.communicate()
        if publisher.returncode:
            raise BenchmarkError(err.decode(errors="replace").strip().splitlines()[-1])
        command = [python, "-m", "amqpjobs", "consume", QUEUE, "--app", "startup_app:app"]
        begin = time.perf_counter()
        async with started(command, **settings) as consumer:

            async def done() -> bool:
                if consumer.returncode is not None:
                    raise BenchmarkError(f"consume ended with status {consumer.returncode}")
                return mark.exists()

            await until(done, "no job was done", timeout=30)
            consumer.send_signal(signal.SIGTERM)
            await asyncio.wait_for(consumer.communicate(), 30)
        return float(mark.read_text()) - begin


async def main(options: argparse.Namespace) -> int:
    added = await imports(options.python, options.rounds)
    async with Broker.connected(options.url) as broker:
        await broker.delete(QUEUE)
        try:
            await launch(options.url, options.python)
            times = [await launch(options.url, options.python) for _ in range(options.rounds)]
        finally:
            await broker.delete(QUEUE)
        described = environment(broker.version, options)
    results: dict[str, Any] = {
        "import_ms": added,
        "launch_s": {"median": statistics.median(times), "highest": max(times)},
    }
    rows = [[f"import {module}", f"{ms:.0f} ms", "-"] for module, ms in added.items()]
    rows.append(["launch to first job", f"{statistics.median(times):.2f} s", f"{max(times):.2f} s"])
    print(table(["", "median", "highest"], rows))
    write(options.json, described | {"benchmark": "startup", "results": results})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(parser(__doc__.splitlines()[0]).parse_args())))
    except BenchmarkError as failure:
        sys.exit(f"FAILED: {failure}")
