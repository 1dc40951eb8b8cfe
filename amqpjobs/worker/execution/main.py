"""A job process: started by `amqpjobs.worker.execution.pool`, and ends with its worker.

What it does with a call is `amqpjobs.worker.execution.runner`. Changes when its set-up does.
"""

import faulthandler
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import cast

from amqpjobs.telemetry.log_handlers import LogHandler, LogOptions
from amqpjobs.telemetry.logs import LOG_STREAM, LogFormat, configure_logs
from amqpjobs.worker.execution.forking import default_signals_in_children
from amqpjobs.worker.execution.parent_death import die_with
from amqpjobs.worker.execution.runner import Runner
from amqpjobs.worker.execution.session import end_session_with_this_process


def main() -> None:
    """Serve until the worker hangs up. ``sys.argv``: the socket, the worker's process id, and
    `LogOptions`."""
    descriptor, parent, logs = int(sys.argv[1]), int(sys.argv[2]), LogOptions(*sys.argv[3:6])
    del sys.argv[1:]
    die_with(parent, signal.SIGKILL)
    # Programs that a handler starts must not hold the line open, nor the one that is started next:
    # the worker sees by its end that this process is gone.
    os.set_inheritable(descriptor, False)
    end_session_with_this_process()
    leave_signals_to_the_worker()
    set_up_output(logs)  # from the settings of the worker
    with socket.socket(fileno=descriptor) as connection:
        close_inherited()
        connection.setblocking(True)
        Runner(connection).serve()


def close_inherited() -> None:
    """Close what uvloop lets through where asyncio does not, such as the socket of a process that
    is being started at the same moment. What Python opens is not inheritable (PEP 446)."""
    for descriptor in map(int, os.listdir("/dev/fd")):  # noqa: PTH208 - names are all there is
        with suppress(OSError):
            if descriptor > 2 and os.get_inheritable(descriptor):
                os.close(descriptor)


def leave_signals_to_the_worker() -> None:
    """Service managers send SIGTERM to every process of a service; a job may go on until the
    worker's budget ends."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not SIG_IGN: programs that a handler starts would inherit it, and never end.
        signal.signal(number, lambda *_: None)
    default_signals_in_children()


def set_up_output(logs: LogOptions) -> None:
    """Where log lines and prints go: the worker's own stdout and stderr, line by line."""
    if sys.stderr is not None:
        faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    to_stderr = os.environ.get(LOG_STREAM) == "stderr"
    configure_logs(
        logs.level,
        cast("LogFormat", logs.form),
        stream=sys.stderr if to_stderr else sys.stdout,
        handler=cast("LogHandler", logs.handler),
    )
