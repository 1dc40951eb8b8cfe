"""What the benchmark scripts share: where the peers live, running a contender, looking at a queue.

Run the scripts with the Python of the benchmark environment that setup.sh makes.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection

HERE = Path(__file__).parent
CONTENDERS = HERE / "contenders"
CACHE = Path(os.environ.get("AMQPJOBS_CACHE", "~/.cache/amqpjobs")).expanduser() / "bench"
NODE_MODULES = CACHE / "node_modules"
QUORUM = {"x-queue-type": "quorum"}
SAMPLE_EVERY = 0.05  # seconds
KIB_PER_MIB = 1024
PACKAGES = (
    "amqpjobs",
    "aio-pika",
    "aiormq",
    "uvloop",
    "pydantic",
    "faststream",
    "celery",
    "dramatiq",
    "taskiq",
    "taskiq-aio-pika",
    "repid",
)


class BenchmarkError(Exception):
    """A contender failed, or left the queue in a state that it must not be in."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One script under contenders/.

    Attributes:
        name: what the tables call it.
        script: the file's name.
        uvloop: whether it can run under uvloop.
        own_format: its messages have a form of their own, so it fills its queue itself.
        declares: it declares its queue itself, with arguments of its own.
    """

    name: str
    script: str
    uvloop: bool = True
    own_format: bool = False
    declares: bool = False

    def command(self, python: str) -> list[str]:
        """The command that runs it, without its arguments."""
        program = "node" if self.script.endswith(".js") else python
        return [program, str(CONTENDERS / self.script)]


AIO_PIKA = Contender("aio-pika", "aio_pika_plain.py")
RAW = Contender("raw sockets (the broker's share)", "raw_socket.py", uvloop=False)
NODE = Contender("Node.js amqplib", "node_amqplib.js", uvloop=False)
AMQPJOBS = Contender("amqpjobs", "amqpjobs_.py", own_format=True, declares=True)
ALL = (
    AIO_PIKA,
    AMQPJOBS,
    Contender("FastStream", "faststream_.py"),
    Contender("Celery", "celery_.py", uvloop=False, own_format=True, declares=True),
    Contender("Dramatiq", "dramatiq_.py", uvloop=False, own_format=True, declares=True),
    Contender("taskiq", "taskiq_.py", own_format=True, declares=True),
    Contender("Repid", "repid_.py", own_format=True),
    NODE,
)


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--url", required=True, help="AMQP URL of the broker")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--json", type=Path, metavar="FILE", help="write the results here, too")
    made.add_argument("--python", default=sys.executable, help="Python that runs the contenders")
    return made


def choose(names: str | None, among: Sequence[Contender] = ALL) -> list[Contender]:
    """The contenders of a comma-separated list of names, or all of them."""
    if names is None:
        return list(among)
    by_name = {contender.script.split(".")[0].strip("_"): contender for contender in among}
    try:
        return [by_name[name.strip().strip("_")] for name in names.split(",")]
    except KeyError as unknown:
        raise SystemExit(f"unknown contender {unknown}: choose from {', '.join(by_name)}") from None


@contextlib.asynccontextmanager
async def started(
    command: Sequence[str], *, stdin: bool = False, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process in a session of its own, which is killed with its children when the block ends.
    With `stdin` it may read until then."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.PIPE if stdin else None,
        env=os.environ | {"NODE_PATH": str(NODE_MODULES)} | environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def result_of(process: asyncio.subprocess.Process, timeout: float) -> dict[str, Any]:
    """The result line of a started contender.

    Raises:
        BenchmarkError: it did not end in time, failed, or printed no result.
    """
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        raise BenchmarkError(f"did not finish within {timeout:.0f} s") from None
    if process.returncode:
        last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise BenchmarkError(f"exit status {process.returncode}: {last[0][:200]}")
    try:
        return json.loads(out.decode().strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise BenchmarkError("printed no result") from None


def resident_kib(pid: int) -> int | None:
    """Resident memory of a process, or None when it is gone or the system has no /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return None


async def sample(pid: int, samples: list[int]) -> None:
    """Collect the resident memory until cancelled."""
    while True:
        if (now := resident_kib(pid)) is not None:
            samples.append(now)
        await asyncio.sleep(SAMPLE_EVERY)


@dataclass(frozen=True, slots=True)
class Bench:
    """How contenders are run, and against which broker."""

    url: str
    python: str
    timeout: float = 300.0

    def line(
        self, contender: Contender, queue: str, work: str, count: int, prefetch: int, uvloop: bool
    ) -> list[str]:
        """The whole command line of one run."""
        line = [*contender.command(self.python), self.url, queue, work, str(count), str(prefetch)]
        return [*line, "--uvloop"] if uvloop else line

    async def run(
        self,
        contender: Contender,
        queue: str,
        work: str,
        count: int,
        prefetch: int,
        uvloop: bool = False,
    ) -> dict[str, Any]:
        """Run one contender to its end and return its result line."""
        line = self.line(contender, queue, work, count, prefetch, uvloop)
        async with started(line) as process:
            return await result_of(process, self.timeout)

    async def fill(self, contender: Contender, queue: str, count: int, prefetch: int) -> None:
        """Publish `count` orders for this contender; plain JSON is filled by the fastest client."""
        filler = contender
        if not contender.own_format:
            filler = NODE if shutil.which("node") and NODE_MODULES.exists() else AIO_PIKA
        await self.run(filler, queue, "fill", count, prefetch)


class Broker:
    """The driver's own connection, for looking at queues and clearing them away."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator["Broker"]:
        """Connect for the length of the block."""
        connection = await aio_pika.connect_robust(url)
        async with connection:
            yield cls(connection)

    @property
    def version(self) -> str:
        """What the broker says it is."""
        properties = self._connection.transport.connection.server_properties
        return f"{properties['product']} {properties['version']}"

    async def declare(self, queue: str, **arguments: object) -> None:
        """Declare a durable quorum queue."""
        async with self._connection.channel() as channel:
            await channel.declare_queue(queue, durable=True, arguments=QUORUM | arguments)

    async def declare_refusing(self, queue: str) -> None:
        """Declare a quorum queue that is full and refuses every publish from now on.

        The length limit of a quorum queue takes effect a moment late, so it is published to until
        the first refusal: messages that a contender has in flight all at once would slip in else.
        """
        await self.declare(queue, **{"x-max-length": 1, "x-overflow": "reject-publish"})

        async def refuses() -> bool:
            try:
                await channel.default_exchange.publish(aio_pika.Message(b"full"), routing_key=queue)
            except aio_pika.exceptions.DeliveryError:
                return True
            return False

        async with self._connection.channel() as channel:
            await until(refuses, "a full queue went on accepting messages")

    async def delete(self, queue: str) -> None:
        """Delete the queue and what contenders put beside it; what is not there is no error."""
        async with self._connection.channel() as channel:
            for suffix in ("", ".DQ", ".XQ", ".dead", ".parked"):
                await channel.queue_delete(queue + suffix)
            await channel.exchange_delete(f"{queue}.exchange")

    async def count(self, queue: str) -> tuple[int, int]:
        """Waiting messages and consumers. Messages unacked by a live channel are not in it."""
        async with self._connection.channel() as channel:
            declared = await channel.declare_queue(queue, passive=True)
            result = declared.declaration_result
            return result.message_count or 0, result.consumer_count or 0

    async def waiting(self, queue: str) -> int:
        """Messages waiting when nobody consumes any more: unacked ones are back by then."""
        await until(lambda: self._idle(queue), "its consumer is still there")
        return (await self.count(queue))[0]

    async def _idle(self, queue: str) -> bool:
        return (await self.count(queue))[1] == 0

    async def expect(self, queue: str, count: int) -> None:
        """Check that exactly so many messages are waiting.

        Raises:
            BenchmarkError: there are more or fewer, although they were given time to settle.
        """

        async def reached() -> bool:
            return await self.waiting(queue) == count

        try:
            await until(reached, "", timeout=5)
        except BenchmarkError:
            left = await self.waiting(queue)
            raise BenchmarkError(f"{left} messages in the queue, expected {count}") from None

    async def expect_persistent(self, queue: str) -> None:
        """Check that the first message waiting is persistent, and leave it there."""
        async with self._connection.channel() as channel:
            message = await (await channel.get_queue(queue)).get()
            await message.nack(requeue=True)
        if message.delivery_mode != aio_pika.DeliveryMode.PERSISTENT:
            raise BenchmarkError("published a message that is not persistent")


async def until(
    condition: Callable[[], Any], otherwise: str, timeout: float = 10.0, pause: float = 0.02
) -> None:
    """Wait for an asynchronous condition, or raise BenchmarkError."""
    try:
        async with asyncio.timeout(timeout):
            while not await condition():
                await asyncio.sleep(pause)
    except TimeoutError:
        raise BenchmarkError(otherwise) from None


def environment(broker: str, options: argparse.Namespace) -> dict[str, Any]:
    """What the results were measured on and with; nothing private."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    amqplib = NODE_MODULES / "amqplib" / "package.json"
    if amqplib.exists():
        versions["amqplib"] = json.loads(amqplib.read_text())["version"]
    kept = {
        name: value
        for name, value in vars(options).items()
        if name not in {"url", "python", "json"}
    }
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "broker": broker,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor(),
        "cores": os.cpu_count(),
        "versions": versions,
        "options": {name: str(value) for name, value in kept.items()},
    }


def processor() -> str:
    """The processor's model, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *map(line, rows)])


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent of the values are."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def write(path: Path | None, data: dict[str, Any]) -> None:
    """Write the results as JSON, if a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(data, indent=2) + "\n")
