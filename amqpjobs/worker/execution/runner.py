"""What a job process does with a call: find the job, run its handler, and answer.

Changes when the answer to a call does.
"""

import asyncio
import importlib
import json
import logging
import socket
import traceback
from contextlib import AsyncExitStack, suppress
from contextvars import copy_context
from dataclasses import replace
from functools import reduce
from inspect import isawaitable

from amqpjobs.errors import AmqpJobsError, ConfigurationError, DecodeError, InvalidResult
from amqpjobs.jobs.context import Context, current_context
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.exceptions import class_name
from amqpjobs.jobs.handlers import check_result, landed
from amqpjobs.jobs.hooks import WorkerHooks
from amqpjobs.jobs.job import Job
from amqpjobs.jobs.message.arguments import Arguments
from amqpjobs.jobs.results import dump_result
from amqpjobs.jobs.verdicts import RateLimited, Reject, RetryAfter, Snooze, Verdict
from amqpjobs.telemetry.traces.propagation import continuing
from amqpjobs.worker.execution.handlers import within
from amqpjobs.worker.execution.memory import Memory, limited_to
from amqpjobs.worker.execution.progress import Speaker
from amqpjobs.worker.execution.protocol import (
    LARGEST_RESULT,
    LENGTHS,
    Answer,
    Call,
    Raised,
    Returned,
    Ruled,
    Unfit,
    Worn,
    context_of,
    frame_of_answer,
)
from amqpjobs.worker.failures import exception_name, innermost_frames
from amqpjobs.worker.hooks import hooks_run

log = logging.getLogger("amqpjobs.worker.runner")

LONGEST_MESSAGE = 10_000
LONGEST_TRACEBACK = 100_000


class ToldToStop:
    """``ctx.stopping`` of a job. Nothing else is sent while a job runs: what arrives is the word
    to stop. So it needs no thread, and no signal that could interrupt the handler's system calls.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._set = False

    def is_set(self) -> bool:
        """Whether the worker was told to stop."""
        if not self._set:
            try:
                self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            self._set = True
        return True

    async def wait(self) -> object:
        """Return when the worker is told to stop, for a handler with an event loop of its own."""
        while not self.is_set():  # noqa: ASYNC110 - what it waits for is on a socket, not in here
            await asyncio.sleep(0.1)
        return True


class Runner:
    """Answers the calls that come over a socket.

    Args:
        connection: to the worker.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._memory = Memory()
        # One for all calls: the clients that handlers keep are bound to their event loop.
        self._events = asyncio.Runner()
        self._definitions: dict[tuple[str, str], Definition] = {}
        self._home = copy_context()  # with the resources of the apps in `_entered`
        self._hooks = AsyncExitStack()
        self._entered: set[int] = set()

    def serve(self) -> None:
        """Work until the worker hangs up, or this process is of no use any more."""
        try:
            self._serve()
        finally:
            if self._entered:
                self._events.run(self._hooks.aclose(), context=self._home)
            self._events.close()

    def _serve(self) -> None:
        connection = self._connection
        while (lengths := receive(connection, LENGTHS.size)) is not None:
            header_size, body_size = LENGTHS.unpack(lengths)
            if not header_size:
                continue  # told to stop when the job had ended already
            header, body = receive(connection, header_size), receive(connection, body_size)
            if header is None or body is None:
                return
            answer = self._answer(Call(**json.loads(header)), body)
            connection.sendall(frame_of_answer(answer))
            if isinstance(answer, Raised) and answer.last:
                return

    def _answer(self, call: Call, body: bytes) -> Answer:
        """Run one call. Whatever happens in it is its answer."""
        try:
            definition = self._definition(call)
            if self._memory.is_worn(call.memory_limit):
                return Worn()
            arguments = definition.payload.load(body)
        except (ConfigurationError, DecodeError) as error:
            return unfit(error)
        except Exception as error:  # noqa: BLE001 - validators are the user's
            return raised(error)
        speaker = Speaker(self._connection)
        context = context_of(call, ToldToStop(self._connection), speaker)
        try:
            # In a context of its own: what a handler sets is not there for the next.
            self._enter(definition.app.worker_hooks)
            result = self._home.copy().run(self._run, call, definition, context, arguments)
        except Verdict as verdict:
            return ruled(verdict)
        except BaseException as error:  # noqa: BLE001 - `sys.exit` too is a failure of the job
            answer = raised(error, call.memory_limit)
            # From a task of the handler's these leave the event loop with the handler still in it.
            left = (
                isinstance(error, KeyboardInterrupt | SystemExit) and definition.kind != "process"
            )
            return replace(answer, last=True) if left else answer
        finally:
            speaker.end(context)
        return returned(definition, result)

    def _run(
        self, call: Call, definition: Definition, context: Context, arguments: Arguments
    ) -> object:
        current_context.set(context)
        with limited_to(call.memory_limit), continuing(call.trace):
            result = None
            if definition.kind != "async":
                result = definition.invoke(context, arguments)
                if not isawaitable(result):
                    check_result(result)
                    return result
            handler = awaited(definition, context, arguments, result)
            return self._events.run(handler, context=copy_context())

    def _enter(self, hooks: WorkerHooks) -> None:
        """Run the hooks of an app before its first job here, on the event loop of all jobs."""
        used = hooks.lifespan is not None or hooks.on_start or hooks.on_stop
        if used and id(hooks) not in self._entered:
            entering = self._hooks.enter_async_context(hooks_run(hooks))
            self._events.run(entering, context=self._home)
            self._entered.add(id(hooks))

    def _definition(self, call: Call) -> Definition:
        place = call.module, call.qualname
        if place not in self._definitions:
            with self._memory.used_by_code():
                self._definitions[place] = find(*place)
        return self._definitions[place]


async def awaited(
    definition: Definition, context: Context, arguments: Arguments, result: object
) -> object:
    """The result of an ``async def``, which is run in a process when a worker has died with it; or
    of what a ``def`` has returned, which may be something to await."""
    try:
        if definition.kind == "async":
            result = definition.invoke(context, arguments)
        return await within(definition.timeout, landed(result))
    finally:
        # Nothing runs between two calls: a connection that was left open would miss its heartbeats.
        with suppress(AmqpJobsError):
            await definition.app.close()


def receive(connection: socket.socket, size: int) -> bytes | None:
    """So many bytes; None if the worker hung up."""
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


def find(module: str, qualname: str) -> Definition:
    """Import a job.

    Raises:
        ConfigurationError: the module cannot be imported, or there is no job of this name in it.
    """
    try:
        place = importlib.import_module(module)
    except BaseException as error:
        log.exception("cannot import %s", module)
        raise ConfigurationError(
            f"the process of a job cannot import {module}: {exception_name(error)}: "
            f"{text_of(error)}"
        ) from error
    try:
        job: object = reduce(getattr, qualname.split("."), place)
    except AttributeError:
        job = None
    if not isinstance(job, Job):
        raise ConfigurationError(
            f"the process of a job finds no job at {module}:{qualname}; @app.job must be "
            "its outermost decorator, and its name must not be used again"
        )
    return job.definition


def returned(definition: Definition, result: object) -> Answer:
    """The answer for what a handler returned. Only of a ``cpu=True`` job is it asked that it can be
    passed on: others are here by way of exception, and have succeeded."""
    if isinstance(result, Verdict):
        return ruled(result)
    try:
        return Returned(dump_result(definition, result, LARGEST_RESULT))
    except Exception as error:  # noqa: BLE001 - serializers are the user's
        if definition.kind != "process":
            return Returned(b"")
        if isinstance(error, ConfigurationError | InvalidResult):
            return unfit(error)
        return raised(error)


def ruled(verdict: Verdict) -> Ruled:
    """The answer for a verdict; one of a subclass is what it is derived from."""
    match verdict:
        case RetryAfter(seconds=seconds):
            return Ruled("RetryAfter", seconds)
        case RateLimited(seconds=seconds):
            return Ruled("RateLimited", seconds)
        case Snooze(seconds=seconds):
            return Ruled("Snooze", seconds)
        case Reject(reason=reason):
            return Ruled("Reject", clean(str(reason)[:LONGEST_MESSAGE]))
        case _:
            return Ruled("Reject", text_of(verdict))


def unfit(error: AmqpJobsError) -> Unfit:
    """The answer for a call that cannot work."""
    return Unfit(type(error).__name__, text_of(error))


def raised(error: BaseException, limit: int | None = None) -> Raised:
    """The answer for an exception."""
    message = text_of(error)
    out_of_memory = isinstance(error, MemoryError)
    if out_of_memory and limit is not None:
        message = f"{message or 'out of memory'} (memory_limit is {limit} bytes)"
    return Raised(
        exception=exception_name(error),
        kinds=tuple(class_name(kind) for kind in type(error).__mro__),
        message=message,
        frames=innermost_frames(error),
        traceback=clean("".join(traceback.format_exception(error))[-LONGEST_TRACEBACK:]),
        # What else failed to get memory, and was left half done, nobody knows.
        last=out_of_memory,
    )


def text_of(error: BaseException) -> str:
    """Its message, whatever its ``__str__`` does."""
    try:
        return clean(str(error)[:LONGEST_MESSAGE])
    except BaseException:  # noqa: BLE001 - as above
        return "(its message cannot be shown)"


def clean(text: str) -> str:
    """Without lone surrogates, which UTF-8 cannot hold."""
    return text.encode(errors="replace").decode()
