"""Whether a person reads a stream, and in colour. Changes when a terminal says so otherwise."""

import os
from typing import Any


def is_terminal(stream: Any) -> bool:
    """Also of what a program has put in place of stdout, which may have a ``write`` and no more,
    and of None, which it is where the process was started with it closed."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def has_colour(stream: Any) -> bool:
    """What the environment says, in the order that Python has for its own tracebacks: no colour
    with ``NO_COLOR`` (https://no-color.org), colour with ``FORCE_COLOR``, and else on a terminal
    that is not ``dumb``."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return os.environ.get("TERM") != "dumb" and is_terminal(stream)
