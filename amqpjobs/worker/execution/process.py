"""One process that runs jobs, seen from the worker: started, called, and killed.

What runs in it is `amqpjobs.worker.execution.main`. Changes when its life does.
"""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from amqpjobs.errors import JobProcessDied
from amqpjobs.jobs.context import Stopping
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.telemetry.log_handlers import LOG_DEFAULTS, LogOptions
from amqpjobs.worker.execution.protocol import (
    LARGEST_HEADER,
    LARGEST_RESULT,
    LENGTHS,
    STOP,
    Answer,
    Told,
    read_answer,
)

# Not `-m`: this way amqpjobs itself is found where the worker found it.
BOOT = (
    "import sys; sys.path[:] = sys.argv[6:]; "
    "from amqpjobs.worker.execution.main import main; main()"
)

CHUNK = 2**18

WORST_OOM_SCORE = "1000"
"""proc(5), oom_score_adj: the kernel's first choice."""

KILL_TIME = 1.0
"""Seconds to wait for the end of a process that was killed; the kernel needs a few milliseconds."""


def expect_death(pid: int) -> None:
    """Have the kernel kill this process first when memory runs out. The way of Linux (proc(5));
    elsewhere there is no such file."""
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(WORST_OOM_SCORE)


class JobProcess:
    """One process, and the socket to it. Use `start`.

    Attributes:
        ended: done when the process is gone, and all that it had started in its process group.
    """

    def __init__(self, process: asyncio.subprocess.Process, connection: socket.socket) -> None:
        self._process = process
        self._connection = connection
        self._killed = False
        self._loop = asyncio.get_running_loop()
        self.ended = self._loop.create_task(
            self._wait(), name=f"amqpjobs job process {process.pid}"
        )

    @classmethod
    async def start(
        cls, *, expendable: bool = False, logs: LogOptions = LOG_DEFAULTS
    ) -> "JobProcess":
        """Start one, in a session of its own: a terminal's Ctrl-C is for the worker to handle.

        Args:
            expendable: the kernel is to kill it before all others when memory runs out.
            logs: how it logs. Given, since reading the settings costs as much as all else that
                it imports.

        Raises:
            OSError: the machine has no room for it.
        """
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", BOOT, str(theirs.fileno()), str(os.getpid()), *logs,
                    *map(str, sys.path),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        if expendable:
            expect_death(process.pid)
        return cls(process, ours)

    async def _wait(self) -> None:
        await self._process.wait()
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # Whatever the handler forked may hold the other end open, and there would be no EOF.
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def is_ready(self) -> bool:
        """Whether it still waits for a call: it has not ended, and says nothing unasked."""
        try:
            self._connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    async def ask(self, call: bytes, context: RunContext) -> Answer:
        """Send a call and wait for its answer; pass on what the job tells of its progress, and to
        it if the worker is told to stop.

        Raises:
            JobProcessDied: it ended instead.
        """
        try:
            await self._loop.sock_sendall(self._connection, call)
            telling = self._loop.create_task(self._tell(context.stopping))
            try:
                return await self._answer(context)
            finally:
                telling.cancel()
                # It may still be at the socket, which is closed next.
                await asyncio.wait([telling])
        except (EOFError, OSError) as error:
            raise JobProcessDied(await self._cause_of_death()) from error
        except ValueError as error:
            raise JobProcessDied("the process sent something that is not an answer") from error

    async def _tell(self, stopping: Stopping) -> None:
        await stopping.wait()
        with suppress(OSError):
            await self._loop.sock_sendall(self._connection, STOP)

    async def _answer(self, context: RunContext) -> Answer:
        data = bytearray()
        while True:
            await self._receive(data, LENGTHS.size)
            header_size, body_size = LENGTHS.unpack_from(data)
            if header_size > LARGEST_HEADER or body_size > LARGEST_RESULT:
                raise ValueError("too large")
            body_start = LENGTHS.size + header_size
            end = body_start + body_size
            await self._receive(data, end)
            said = read_answer(bytes(data[LENGTHS.size : body_start]), bytes(data[body_start:end]))
            if not isinstance(said, Told):
                return said
            context.progress(said.fraction, said.message)
            del data[:end]

    async def _receive(self, data: bytearray, size: int) -> bytearray:
        while len(data) < size:
            chunk = await self._loop.sock_recv(self._connection, CHUNK)
            if not chunk:
                raise EOFError
            data += chunk
        return data

    async def _cause_of_death(self) -> str:
        await asyncio.wait([self.ended], timeout=KILL_TIME)
        code = self._process.returncode
        if self._killed:
            return "the worker killed it, since it is ending itself"
        if code is None:
            return "the process closed its connection to the worker before the job ended"
        if code >= 0:
            return f"the process ended with exit status {code} before the job did"
        if code == -signal.SIGKILL:
            return "the process was killed by SIGKILL; the kernel does so when memory runs out"
        name = next((s.name for s in signal.Signals if s == -code), f"signal {-code}")
        return f"the process was killed by {name}"

    def hang_up(self) -> None:
        """Close the connection: an idle process ends."""
        self._connection.close()

    def kill_now(self) -> None:
        """Kill it, and all that it has started in its process group; `ask` will raise."""
        self._killed = True
        if self._process.returncode is None:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        # Not closed: an event loop that waits for a socket is not woken by that.
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    async def kill(self) -> None:
        """Kill it, and wait until it is gone. Not while somebody is in `ask`."""
        self.kill_now()
        self._connection.close()
        await asyncio.wait([self.ended], timeout=KILL_TIME)
