"""Ends the programs that a job has started when the process of the job has ended, however it ended.

This file is the program that does so, too: it imports the standard library only. Changes when the
way to find them does.
"""

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

ROUNDS = 100
"""How often processes are looked for that were started while others were killed."""


def end_session_with_this_process() -> None:
    """Have everything that is in this process's session killed when this process ends.

    The kernel's signal at the death of a parent is for its children only, not for theirs. So a
    small program waits for the end of this process, and kills the session: all that handlers have
    started, also in process groups of their own, but not what has begun a session of its own
    (`setsid`, ``start_new_session=True``), as daemons do.

    It is nobody's child, so that a handler's `os.wait` does not wait for it. Without room for it
    the job runs all the same.
    """
    reader, writer = os.pipe()
    kept = [writer]

    def close_writer() -> None:
        while kept:
            os.close(kept.pop())

    # This process alone holds the other end: the kernel closes it at its end.
    os.register_at_fork(after_in_child=close_writer)
    try:
        child = os.fork()
    except OSError:
        child = None
    if child == 0:
        _split_off(reader)
    os.close(reader)
    if child is not None:
        os.waitpid(child, 0)


def _split_off(reader: int) -> NoReturn:
    try:
        if os.fork():
            os._exit(0)
        os.dup2(reader, 0)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        program = [sys.executable, "-I", "-S", __file__, str(os.getsid(0))]
        os.setpgid(0, 0)  # the worker kills the process group of the job
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.execv(program[0], program)  # noqa: S606 - this very file
    finally:
        os._exit(0)


def watch_over(session: int) -> None:
    """Wait for the end of the process at the other end of standard input, and kill its session."""
    while os.read(0, 1024):
        pass  # a handler can reach every descriptor
    with suppress(OSError):
        os.killpg(session, signal.SIGKILL)
    for _ in range(ROUNDS):
        found = _others_in(session)
        if not found:
            return
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _others_in(session: int) -> list[int]:
    """The processes of the session, without this one and without zombies. Only Linux tells."""
    found = []
    with suppress(OSError):
        for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib would be most of this program
            if not name.isdigit() or int(name) == os.getpid():
                continue
            with suppress(OSError, ValueError):
                # proc(5), stat: behind the name, which may hold anything, come the state, the
                # parent, the process group, the session.
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                    state, _, _, its_session = file.read().rpartition(b")")[2].split()[:4]
                if int(its_session) == session and state != b"Z":
                    found.append(int(name))
    return found


if __name__ == "__main__":
    watch_over(int(sys.argv[1]))
