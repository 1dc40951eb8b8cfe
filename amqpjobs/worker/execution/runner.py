"""What a job process does with a call: find the job, run its handler, and answer.

Changes when the answer to a call does.
"""

import asyncio
import importlib
import json
import logging
import socket
import sys
import time
import traceback
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import reduce
from inspect import isawaitable
from types import ModuleType

from amqpjobs.errors import AmqpJobsError, ConfigurationError, DecodeError, InvalidResult
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.exceptions import class_name
from amqpjobs.jobs.handlers import check_result, landed
from amqpjobs.jobs.hooks import WorkerHooks
from amqpjobs.jobs.job import Job, definition_of
from amqpjobs.jobs.message.arguments import Arguments
from amqpjobs.jobs.results import dump_result
from amqpjobs.jobs.run_context import RunContext, current_context
from amqpjobs.jobs.surroundings import Surroundings, surroundings
from amqpjobs.jobs.verdicts import RateLimited, Reject, RetryAfter, Snooze, Verdict
from amqpjobs.telemetry.logs import configure_logs_again, configured_by_import
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
from amqpjobs.worker.hooks import HooksKept

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
        self._definitions: dict[tuple[str | None, ...], Definition] = {}
        self._home = copy_context()  # with the resources of the apps in `_entered`
        self._entered: dict[WorkerHooks, HooksKept] = {}

    def serve(self) -> None:
        """Work until the worker hangs up, or this process is of no use any more."""
        try:
            self._serve()
        finally:
            for kept in reversed(self._entered.values()):
                self._events.run(kept.leave())
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
            self._enter(definition.worker_hooks)
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
        self, call: Call, definition: Definition, context: RunContext, arguments: Arguments
    ) -> object:
        current_context.set(context)
        jobs = {definition.name: definition}
        surroundings.set(Surroundings(jobs, time.time, app=definition.sender))
        with limited_to(call.memory_limit), continuing(call.trace):
            result = None
            if definition.kind != "async":
                result = definition.invoke(context, arguments)
                if not isawaitable(result):
                    check_result(result)
                    return result
            handler = awaited(definition, context, arguments, result)
            return value_of(self._events.run(handler, context=copy_context()))

    def _enter(self, hooks: WorkerHooks | None) -> None:
        """Run the hooks of an app before its first job here, on the event loop of all jobs."""
        if hooks is None or hooks in self._entered:
            return
        if hooks.lifespan is not None or hooks.on_start or hooks.on_stop:
            kept = HooksKept(hooks)
            self._events.run(kept.enter(self._home))
            configure_logs_again()
            self._entered[hooks] = kept

    def _definition(self, call: Call) -> Definition:
        place = call.module, call.qualname, call.app
        if place not in self._definitions:
            with self._memory.used_by_code():
                if call.included_by is not None:
                    module_of(call.included_by)  # without it the router is in no app
                found = find(call.module, call.qualname).in_app(call.app)
                if call.included_by is not None and found.registered_in != call.app:
                    raise found.fail(
                        f"its process finds it in no app {call.app!r}: {call.included_by} must "
                        "include its router when it is imported, not in a function"
                    )
                self._definitions[place] = found
        return self._definitions[place]


async def awaited(
    definition: Definition, context: RunContext, arguments: Arguments, result: object
) -> object:
    """The result of an ``async def``, which is run in a process when a worker has died with it; or
    of what a ``def`` has returned, which may be something to await. A `Failed` if that fails."""
    try:
        if definition.kind == "async":
            result = definition.invoke(context, arguments)
        return await within(context.timeout_of(definition.timeout), landed(result))
    except Exception as error:  # noqa: BLE001 - `value_of` raises it
        return Failed(error)
    finally:
        # Nothing runs between two calls: a connection that was left open would miss its heartbeats.
        with suppress(AmqpJobsError):
            await definition.app.close()


class Failed:
    """What a handler on the event loop has raised. Raised through the loop, the error and the task
    of the handler would hold each other, and what the handler had in its variables with them."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error


def value_of(result: object) -> object:
    """The result; or what a handler has raised is raised, and held no longer."""
    if not isinstance(result, Failed):
        return result
    error, result.error = result.error, None
    try:
        assert error is not None  # noqa: S101 - it is taken once
        raise error
    finally:
        del error


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
    place = module_of(module)
    try:
        job: object = reduce(getattr, qualname.split("."), place)
    except AttributeError:
        job = None
    if not isinstance(job, Job):
        raise ConfigurationError(
            f"the process of a job finds no job at {module}:{qualname}; @app.job must be "
            "its outermost decorator, and its name must not be used again"
        )
    return definition_of(job)


def module_of(module: str) -> ModuleType:
    """Import a module that has jobs, or an app.

    Raises:
        ConfigurationError: it cannot be imported.
    """
    try:
        return sys.modules.get(module) or imported(module)
    except BaseException as error:
        log.exception("importing the job failed", extra={"imported": module})
        raise ConfigurationError(
            f"the process of a job cannot import {module}: {exception_name(error)}: "
            f"{text_of(error)}"
        ) from error


def imported(module: str) -> ModuleType:
    """Import a module, which may configure logging."""
    with configured_by_import():
        return importlib.import_module(module)


def returned(definition: Definition, result: object) -> Answer:
    """The answer for what a handler returned. Only a ``cpu=True`` job must return
    what can be serialized; others run here as an exception, and are done."""
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
