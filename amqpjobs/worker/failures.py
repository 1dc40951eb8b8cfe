"""Names, messages and frames of exceptions, as failures carry them. Changes when that does."""

import os
import traceback
from pathlib import Path

from amqpjobs.errors import RemoteError
from amqpjobs.jobs.exceptions import class_name

OURS = str(Path(__file__).parents[1]) + os.sep

FRAMES = 5
"""How many of the innermost stack frames a failure carries."""


LONGEST = 1000
"""Characters of what an exception says that a failure carries."""


def words_of(thing: object) -> str:
    """What an exception or a reason says, as text that AMQP can carry, and not too much of it."""
    try:
        text = str(thing)
    except BaseException:  # noqa: BLE001 - a handler's own `__str__` may raise anything
        text = f"{type(thing).__name__}, which cannot say what it is"
    # File names that are not UTF-8 have surrogates in them.
    return text[:LONGEST].encode(errors="backslashreplace").decode()


def exception_name(error: BaseException) -> str:
    """``module.Class``, without the module for Python's own; of what a job's process raised, the
    name that it has there."""
    if isinstance(error, RemoteError):
        return error.exception
    return class_name(type(error))


def innermost_frames(error: BaseException) -> tuple[str, ...]:
    """The innermost stack frames, innermost first: places in the code, no values; ours left out."""
    if isinstance(error, RemoteError):
        return error.frames
    stack = traceback.extract_tb(error.__traceback__)
    frames = [f for f in stack if not f.filename.startswith(OURS)][-FRAMES:]
    return tuple(f"{f.filename}:{f.lineno} {f.name}" for f in reversed(frames))
