"""Resets processes that a job forks: default signals, and no connections of the worker.

Changes when a worker has more that a child must not share.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeAlias

Handler: TypeAlias = "Callable[[int, FrameType | None], object] | int | signal.Handlers | None"

_local = threading.local()
_installed = False


def default_signals_in_children() -> None:
    """Give forked children the usual effect of signals that an event loop, or amqpjobs, handles.

    A child that is forked and runs no other program (`multiprocessing`, `os.fork`) has the signal
    handlers of its parent, and shares the descriptor by which the parent's event loop hears of
    signals: SIGTERM to the child would not end it, and would stop the worker.
    """
    global _installed  # hooks of a process can be added only
    if not _installed:
        _installed = True
        os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_reset)


def _hold_back() -> None:
    # A signal that comes to the child before it is reset must wait, not be the parent's.
    _local.mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _let_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _local.mask)


def _reset() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if _is_of_a_loop(signal.getsignal(number)):
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
    _let_through()


def _is_of_a_loop(handler: Handler) -> bool:
    """Whether an event loop, or amqpjobs for one, has set it. A library's own are left."""
    handler = getattr(handler, "func", handler)  # asyncio's own for SIGINT is a partial
    if not callable(handler):
        return False
    owner = getattr(handler, "__self__", None)
    module = getattr(handler, "__module__", None) or getattr(type(owner), "__module__", "")
    return isinstance(owner, asyncio.AbstractEventLoop) or str(module).startswith(
        ("asyncio.", "uvloop", "amqpjobs.")
    )
