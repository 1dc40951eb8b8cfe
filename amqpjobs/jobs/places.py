"""Where code of the user is: which module has called. Changes when a place is told otherwise."""

import sys


def called_from(depth: int) -> str:
    """The name of the module that has called.

    Args:
        depth: 0 for the caller of this function, 1 for its caller, and so on.
    """
    name: str = sys._getframe(depth + 1).f_globals.get("__name__", "__main__")
    return name
