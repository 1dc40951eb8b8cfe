"""How the run of a durable job ends that waits: its code is left, and runs again later.

Changes when leaving it does.
"""


class Suspend(BaseException):
    """Leaves the handler of a durable job: all that it does now is wait. It is thrown by what the
    handler awaits, and no `Exception`: handlers and libraries that catch errors let it pass.

    A handler that catches `BaseException`, and does not raise it again, does what comes behind it
    each time that it waits. The log says so.
    """


def is_suspension(error: BaseException) -> bool:
    """Whether an error is a `Suspend`, or a group of nothing else, as task groups make it."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_suspension(each) for each in error.exceptions)
    return isinstance(error, Suspend)
