"""What is told of an exception: its name, and where it was raised. Changes when that does."""

import os
import traceback
from pathlib import Path

from amqpjobs.errors import RemoteError

OURS = str(Path(__file__).parents[1]) + os.sep

FRAMES = 5
"""How many of the innermost stack frames a failure carries."""


def exception_name(error: BaseException) -> str:
    """``module.Class``, without the module for Python's own; of what a job's process raised, the
    name that it has there."""
    if isinstance(error, RemoteError):
        return error.exception
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def innermost_frames(error: BaseException) -> tuple[str, ...]:
    """The innermost stack frames, innermost first: places in the code, no values; ours left out."""
    if isinstance(error, RemoteError):
        return error.frames
    stack = traceback.extract_tb(error.__traceback__)
    frames = [f for f in stack if not f.filename.startswith(OURS)][-FRAMES:]
    return tuple(f"{f.filename}:{f.lineno} {f.name}" for f in reversed(frames))
