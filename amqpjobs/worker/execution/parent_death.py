"""Ending with the process that started this one. Changes when the operating system's way does."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""<linux/prctl.h>: the signal that a process gets when its parent dies."""


def die_with(parent: int, number: signal.Signals) -> None:
    """Get a signal when the parent dies, however it dies; on Linux only.

    Args:
        parent: its process id, to see whether it died before this could be arranged.
        number: which signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)
