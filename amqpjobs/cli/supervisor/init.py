"""Being process 1, as the program of a container is: what the kernel asks of that process, and
Python does not do.

Orphans come to process 1, which has to collect them when they end, or they stay as zombies. And it
is not ended by a signal that it has no handler for, so that `docker stop` would wait for
`amqpjobs migrate` in vain. So process 1 becomes a small program of its own, which passes signals on
and collects, and amqpjobs goes on as its child. Where there is another init (``docker run --init``,
Kubernetes with a shared process namespace) nothing of this happens. Changes when what the kernel
asks of process 1 does.

This file is that program, too: it imports the standard library only.
"""

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

_OWN = {
    # Faults of the process itself, job control, and what cannot be caught.
    signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS,
    signal.SIGTRAP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGKILL, signal.SIGSTOP,
}  # fmt: skip


def stand_in_for_init() -> None:
    """Leave process 1 to the small program, if this is process 1; returns in its child.

    The child has a process group of its own, which gets the terminal's signals where there is one.
    """
    if os.getpid() != 1:
        return
    # Waits from here on, so that none is lost before the program asks for it. Blocked signals are
    # kept even where process 1 would ignore them, and stay blocked over `exec`.
    signal.pthread_sigmask(signal.SIG_BLOCK, _awaited())
    child = os.fork()
    if child:
        program = [sys.executable, "-I", "-S", __file__, str(child)]
        os.execv(program[0], program)  # noqa: S606 - this very file
    _take_terminal()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _awaited())


def watch_over(child: int) -> NoReturn:
    """Pass signals on to the child and collect whoever ends, until the child does.

    What is left then is killed by the kernel. The exit status is the child's, or 128 and the number
    of the signal that ended it.
    """
    while True:
        number = signal.sigwait(_awaited())
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(child, number)
        elif (status := _collect(child)) is not None:
            os._exit(status if status >= 0 else 128 - status)


def _awaited() -> set[signal.Signals]:
    return signal.valid_signals() - _OWN


def _collect(child: int) -> int | None:
    """Wait for all that have ended; the child's status, if it is among them."""
    ended = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                ended = os.waitstatus_to_exitcode(status)
    return ended


def _take_terminal() -> None:
    os.setpgid(0, 0)
    if not os.isatty(0):
        return
    # A background group may not take the terminal, and is stopped for trying, unless it ignores it.
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with suppress(OSError):  # somebody else's terminal
        os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, before)


if __name__ == "__main__":
    watch_over(int(sys.argv[1]))
