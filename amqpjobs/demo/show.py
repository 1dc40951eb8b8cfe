"""The show: a broker in this process, a web page, two workers, and a stream of photographs.

What is put in goes the way of a browser's: to the web tier, which enqueues the job. Changes when
the show takes another course.
"""

import asyncio
import itertools
import time
import urllib.request
from asyncio import FIRST_COMPLETED
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote

from amqpjobs.broker.embedded import Broker
from amqpjobs.demo.album import app
from amqpjobs.demo.photographs import OURS, paint_photographs, photographs_in
from amqpjobs.demo.processes import CONSUME, WEB, Process, ShowFailed, free_port
from amqpjobs.jobs.message.events import CANCELLED
from amqpjobs.jobs.message.ids import new_job_id

PAUSE = 2.0
"""Seconds between two photographs, once each has been put in."""

PATIENCE = 20.0
"""Seconds in which the web tier takes a photograph."""


@dataclass
class Shown:
    """One photograph, and what is known of its job.

    Attributes:
        progress: a fraction from 0 to 1.
        detail: what the job says of it.
        worker: which of the two had it last.
    """

    id: str
    name: str
    state: str = "queued"
    progress: float = 0.0
    detail: str = ""
    worker: int | None = None
    error: str | None = None
    ended: bool = False


class Show:
    """Everything that takes part.

    Args:
        folder: for the album, the logs and the store; it is there.
        port: of the page, if it is free.
        photographs: to put in; None for ours, and some that are painted meanwhile.

    Attributes:
        shown: what was put in, in order.
        seconds: how long the page was there.
    """

    def __init__(self, folder: Path, port: int, photographs: Sequence[Path] | None = None) -> None:
        self._folder = folder
        self._given = photographs
        self._here = folder / "photographs"
        self._here.mkdir()
        self.broker = Broker()
        self.port = free_port(port)
        self.shown: list[Shown] = []
        self.seconds = 0.0
        self._workers: list[Process] = []
        self._web: Process | None = None
        self._following: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Show at {self.page}: {len(self.shown)} photographs>"

    @property
    def page(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}/"

    async def run(self, stopped: asyncio.Event, *, once: bool, ready: Callable[[], None]) -> None:
        """Put photographs in until told to stop.

        Args:
            stopped: set to stop.
            once: each photograph once, and then until all are over.
            ready: called when the page is there.

        Raises:
            ShowFailed: one of the processes has ended.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.broker)
            await self._until(stopped, self._start(stack))
            if stopped.is_set():
                return
            ready()
            began = time.monotonic()
            try:
                await self._until(stopped, self._put_in(once=once))
            finally:
                self.seconds = time.monotonic() - began
                for task in self._following:
                    task.cancel()
                await asyncio.gather(*self._following, return_exceptions=True)

    async def _start(self, stack: AsyncExitStack) -> None:
        variables = {
            "AMQPJOBS_URL": self.broker.url,
            "AMQPJOBS_STORE_URL": f"sqlite:///{self._folder}/status.db",
            "ALBUM_FOLDER": str(self._folder / "album"),
            "ALBUM_PHOTOGRAPHS": str(self._here),
            "ALBUM_SHARED": "1",
        }
        where = {"url": variables["AMQPJOBS_URL"], "store_url": variables["AMQPJOBS_STORE_URL"]}
        app.configure(**where)
        for name in self._ours():
            (self._here / name.name).symlink_to(name)
        self._web = self._process(
            "the web tier", "web tier is ready", (*WEB, "--port", str(self.port)), variables
        )
        self._workers = [
            self._process(name, "worker is ready", CONSUME, variables)
            for name in ("worker 1", "worker 2")
        ]
        for process in (self._web, *self._workers):
            stack.push_async_callback(process.stop)
            await process.start()
        await asyncio.gather(*(process.ready() for process in (self._web, *self._workers)))
        await stack.enter_async_context(app.lifespan())

    def _process(
        self, name: str, ready: str, arguments: tuple[str, ...], variables: dict[str, str]
    ) -> Process:
        log = self._folder / f"{name.replace(' ', '-')}.log"
        return Process(name, arguments, log, variables, ready)

    def _ours(self) -> Iterable[Path]:
        return photographs_in(OURS) if self._given is None else self._given

    async def _until(self, stopped: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
        """Work until that is done or told to stop, and see all the time that everybody is there."""
        working = asyncio.create_task(work)
        stopping = asyncio.create_task(stopped.wait())
        try:
            while not (working.done() or stopping.done()):
                for process in (self._web, *self._workers):
                    if process is not None:
                        process.check()
                await asyncio.wait((working, stopping), timeout=0.5, return_when=FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.wait((working, stopping))

    async def _put_in(self, *, once: bool) -> None:
        for name in [path.name for path in self._ours()]:
            await self._put(name)
        if self._given is None:
            painted = iter(paint_photographs(self._here))
            while (path := await asyncio.to_thread(next, painted, None)) is not None:
                await self._put(path.name)
        if not once:
            for path in itertools.cycle(photographs_in(self._here)):
                await asyncio.sleep(PAUSE)
                await self._put(path.name)
        await asyncio.gather(*self._following)

    async def _put(self, name: str) -> None:
        """Put one in, and follow it from before it is there: nothing of it is missed."""
        shown = Shown(new_job_id(), name)
        self.shown.append(shown)
        task = asyncio.create_task(self._follow(shown))
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        url = f"{self.page}photographs/{shown.id}/from/{quote(name)}"
        await asyncio.to_thread(_send, url)

    async def _follow(self, shown: Shown) -> None:
        async with aclosing(app.watch(shown.id)) as statuses:
            async for status in statuses:
                shown.state, shown.ended = status.state, status.ended
                shown.progress, shown.detail = status.progress or 0.0, status.detail
                shown.error = status.error
                shown.worker = self._number_of(status.worker) or shown.worker

    def _number_of(self, worker: str | None) -> int | None:
        """1 or 2, by its process id."""
        pids = [str(process.pid) for process in self._workers]
        pid = (worker or "").rpartition(":")[2]
        return pids.index(pid) + 1 if pid in pids else None

    @property
    def is_good(self) -> bool:
        """Whether every photograph came to its end, and some are in the album."""
        return all(shown.ended and shown.state != CANCELLED for shown in self.shown) and any(
            shown.state == "done" for shown in self.shown
        )


def _send(url: str) -> None:
    request = urllib.request.Request(url, method="PUT")  # noqa: S310 - our own page
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):  # noqa: S310 - the same
            return
    except URLError as error:
        raise ShowFailed(f"the web tier did not take a photograph: {error}") from error
