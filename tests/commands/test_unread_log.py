"""A worker whose log nobody reads for a while starts no more jobs, says so, and loses nothing."""

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amqpjobs import App
from tests.support.amqp import count, stranger
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.programs import PROGRAM, ROOT, command, environment
from tests.support.waiting import PATIENCE, until

JOBS = 60_000

app = App("unread")


@app.job(queue="work")
async def nothing(n: int) -> None: ...


@contextmanager
def unread(env: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker whose stdout is a pipe."""
    with subprocess.Popen(
        [*PROGRAM, "consume", "work", "-c", "200"], env=env, cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as program:  # fmt: skip
        try:
            yield program
        finally:
            program.kill()


def state_of(file: Path, env: dict[str, str]) -> str:
    return command("health", "--file", str(file), env=env).stdout.strip()


async def test_nothing_is_lost(broker_43: VirtualHost, tmp_path: Path) -> None:
    """The loop lives on: heartbeats to RabbitMQ, and to the file for probes. When somebody reads
    again, every job has run and has its line; and at SIGTERM the last lines are there."""
    beats = tmp_path / "beats"
    env = environment(
        broker_43.url, tmp_path, AMQPJOBS_HEARTBEAT_FILE=str(beats), AMQPJOBS_APP=f"{__name__}:app"
    )
    app.configure(url=broker_43.url)
    async with app.lifespan():
        await app.later_many(nothing.message(n) for n in range(JOBS))
    async with stranger(broker_43.url) as channel:
        with unread(env) as program:
            assert await asyncio.to_thread(
                poll, lambda: "log not read" in state_of(beats, env), PATIENCE
            )
            held = await count(channel, "work")
            assert held > 0
            lines: list[bytes] = []
            assert program.stdout is not None
            reading = threading.Thread(target=lines.extend, args=(program.stdout,))
            assert await count(channel, "work") == held
            reading.start()
            await until(lambda: len(lines) > JOBS, "every job has its line")
            program.terminate()
            assert await asyncio.to_thread(program.wait, 20) == 0
            await asyncio.to_thread(reading.join)
        assert await count(channel, "work") == 0
    told = [json.loads(line) for line in lines]
    done = [line["job_id"] for line in told if line["event"] == "job done"]
    assert len(done) == len(set(done)) == JOBS
    events = [line["event"] for line in told]
    assert events.index("log not read, starting no jobs") < events.index("log read again")
    assert events[-1] == "stopped"
