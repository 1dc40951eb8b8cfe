"""The processes that run jobs: how many there are, and which one is next.

Changes when they are started, shared or ended differently.
"""

import asyncio
from contextvars import Context as Variables
from contextvars import copy_context

from amqpjobs.errors import (
    ConfigurationError,
    DecodeError,
    InvalidResult,
    JobProcessDied,
    NoRoom,
    RemoteError,
)
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.results import load_result
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.telemetry.log_handlers import LOG_DEFAULTS, LogOptions
from amqpjobs.worker.execution.process import KILL_TIME, JobProcess
from amqpjobs.worker.execution.protocol import (
    Answer,
    Raised,
    Returned,
    Ruled,
    Unfit,
    Worn,
    call_of,
    frame_of_call,
)

END_TIME = 0.5
"""Seconds that an idle process has to end by itself."""

_ERRORS = {kind.__name__: kind for kind in (ConfigurationError, DecodeError, InvalidResult)}


class ProcessPool:
    """Runs jobs in processes, which are started when they are needed, and then kept.

    Args:
        size: how many there may be.
        expendable: for jobs that may kill their process. When memory runs out, the kernel is to
            take one of these; and one that dies is proof against a job only if no other job ran in
            it before, so that job is run once more, in a new one.
        home: the context in which they are started and watched, since a process outlives the job
            that was its first; None for the one in which this is made.
        logs: how they log.
    """

    def __init__(
        self,
        size: int,
        *,
        expendable: bool = False,
        home: Variables | None = None,
        logs: LogOptions = LOG_DEFAULTS,
    ) -> None:
        self._size = size
        self._home = home or copy_context()
        self._expendable = expendable
        self._logs = logs
        self._slots = asyncio.Semaphore(size)
        self._idle: list[JobProcess] = []
        self._alive: set[JobProcess] = set()
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"<ProcessPool: {len(self._alive)} of {self._size} processes, {len(self._idle)} idle>"
        )

    async def run(self, definition: Definition, context: RunContext, body: bytes) -> object:
        """Run a job's handler, and return its result.

        Cancelling kills the process, with all that the handler has started in its process group.

        Raises:
            RemoteError: the handler raised.
            Verdict: the handler raised or returned one.
            JobProcessDied: the process ended before the job did.
            InvalidResult: what the handler returned cannot be passed on.
            ConfigurationError: a process cannot import the job.
            NoRoom: no process can be started.
        """
        call = frame_of_call(call_of(definition, context), body)
        async with self._slots:
            answer = await self._first_answer(call, context)
            if isinstance(answer, Worn):
                answer = await self._ask(None, call, context)
        return _result(definition, answer)

    async def _first_answer(self, call: bytes, context: RunContext) -> Answer:
        idle = self._take_idle()
        try:
            return await self._ask(idle, call, context)
        except JobProcessDied:
            if idle is None or not self._expendable or self._closed:
                raise
            return Worn()

    async def _ask(self, process: JobProcess | None, call: bytes, context: RunContext) -> Answer:
        process = process or await self._start()
        reusable = False
        try:
            answer = await process.ask(call, context)
            reusable = _can_go_on(answer)
        finally:
            if reusable and not self._closed:
                self._idle.append(process)
            else:
                await process.kill()
        return answer

    def _take_idle(self) -> JobProcess | None:
        while self._idle:
            # The last one used: its caches are warm.
            process = self._idle.pop()
            if process.is_ready():
                return process
            _end_now(process)
        return None

    async def _start(self) -> JobProcess:
        if self._closed:
            raise JobProcessDied("the worker has closed its processes")
        starting = asyncio.get_running_loop().create_task(
            self._started(), context=self._home.copy(), name="amqpjobs start of a job process"
        )
        try:
            return await starting
        except asyncio.CancelledError:
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                _end_now(starting.result())  # it came just too late to be of use
            raise
        except OSError as error:
            # Ours to start, and no job's failure: the next worker may have the room for it.
            raise NoRoom(f"no process can be started: {error}") from error

    async def _started(self) -> JobProcess:
        process = await JobProcess.start(expendable=self._expendable, logs=self._logs)
        self._alive.add(process)
        process.ended.add_done_callback(lambda _: self._alive.discard(process))
        return process

    def rest(self) -> None:
        """End the idle processes; the next job starts one again."""
        while self._idle:
            self._idle.pop().hang_up()

    async def close(self) -> None:
        """End the idle processes, and kill those that are not; returns when they are gone."""
        self._closed = True
        for process in self._alive - set(self._idle):
            process.kill_now()
        for process in self._idle:
            process.hang_up()
        self._idle.clear()
        await _all_ended(self._alive, END_TIME)
        for process in self._alive:
            process.kill_now()
        await _all_ended(self._alive, KILL_TIME)


class NotPassedOn:
    """Stands for what a handler returned in its process, and what cannot leave it. The job has
    succeeded all the same; only its caller gets no result."""

    def __repr__(self) -> str:
        return "<a result that cannot leave the process of its job>"


NOT_PASSED_ON = NotPassedOn()


def _end_now(process: JobProcess) -> None:
    process.kill_now()
    process.hang_up()


def _can_go_on(answer: Answer) -> bool:
    return not (isinstance(answer, Worn) or (isinstance(answer, Raised) and answer.last))


async def _all_ended(processes: set[JobProcess], timeout: float) -> None:
    if processes:
        await asyncio.wait([p.ended for p in processes], timeout=timeout)


def _result(definition: Definition, answer: Answer) -> object:
    match answer:
        case Returned(b""):
            return NOT_PASSED_ON
        case Returned(data):
            return load_result(definition, data)
        case Raised():
            raise RemoteError(
                answer.message,
                exception=answer.exception,
                kinds=answer.kinds,
                frames=answer.frames,
                traceback=answer.traceback,
            )
        case Ruled():
            raise answer.read()
        case Unfit(error, message):
            raise _ERRORS[error](message)
        case Worn():
            raise JobProcessDied("a new process had too little memory for the job's memory_limit")
