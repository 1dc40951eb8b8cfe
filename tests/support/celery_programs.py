"""Workers and producers of Celery, as processes of their own."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.programs import KEPT, ROOT
from tests.support.waiting import PATIENCE, until

WORKER = ("-m", "celery", "-A", "tests.support.celery_app", "worker", "-P", "solo", "-l", "INFO",
          "--without-mingle", "--without-gossip", "--without-heartbeat")  # fmt: skip


class Shop:
    """One broker, one type of queue, one ledger.

    Args:
        url: of the broker.
        type_: of Celery's queue: `classic` or `quorum`.
        folder: where the ledger and the log are.
    """

    def __init__(self, url: str, type_: str, folder: Path) -> None:
        self.url, self.type = url, type_
        self.ledger, self.log = folder / "ledger", folder / "celery.log"
        self.ledger.touch()

    def lines(self, **wanted: Any) -> list[dict[str, Any]]:
        """The lines of the ledger that say this."""
        found = [json.loads(line) for line in self.ledger.read_text().splitlines()]
        return [line for line in found if all(line.get(k) == v for k, v in wanted.items())]

    def note(self, **line: Any) -> None:
        """Write a line, as Celery's tasks do."""
        with self.ledger.open("a") as ledger:
            ledger.write(json.dumps({"side": "amqpjobs", **line}) + "\n")

    async def _start(self, *arguments: str, **pipes: Any) -> asyncio.subprocess.Process:
        env = KEPT | {
            "CELERY_URL": self.url, "CELERY_TYPE": self.type, "CELERY_LEDGER": str(self.ledger),
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        return await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env=env, cwd=ROOT, limit=2**24, **pipes
        )

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A worker of Celery that consumes inside of the block."""
        with self.log.open("ab") as log:
            process = await self._start(*WORKER, stdout=log, stderr=log)
            try:
                ready = lambda: b" ready." in self.log.read_bytes()  # noqa: E731
                await until(ready, f"Celery's worker is ready: {self.log}", 30)
                yield process
            finally:
                await _end(process, signal.SIGTERM)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator["Producer"]:
        """A program that sends tasks. It has declared Celery's queue."""
        pipe = asyncio.subprocess.PIPE
        with self.log.open("ab") as log:
            process = await self._start(
                "-m", "tests.support.celery_producer", stdin=pipe, stdout=pipe, stderr=log
            )
            try:
                yield Producer(process, self.log)
            finally:
                await _end(process, signal.SIGTERM)


class Producer:
    """Asks the program: see `tests.support.celery_producer`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._turn = asyncio.Lock()

    async def ask(self, do: str, **asked: Any) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._turn, asyncio.timeout(PATIENCE * 2):
            stdin.write(json.dumps({"do": do, **asked}).encode() + b"\n")
            line = await stdout.readline()
        assert line, self._log.read_text()[-3000:]
        return json.loads(line)

    async def send(self, task: str, *args: Any, kwargs: Any = None, **options: Any) -> str:
        """`apply_async`: the id of the task."""
        found: str = await self.ask(
            "send", task=task, args=args, kwargs=kwargs or {}, options=options
        )
        return found

    async def get(self, task_id: str, timeout: float = 20) -> Any:
        """`AsyncResult.get`: its value, or the exception as a dict."""
        found = await self.ask("get", id=task_id, timeout=timeout)
        return found.get("value", found)


async def _end(process: asyncio.subprocess.Process, sign: signal.Signals) -> None:
    if process.returncode is None:
        process.send_signal(sign)
    try:
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
