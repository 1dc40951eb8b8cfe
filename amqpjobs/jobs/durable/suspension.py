"""The exception that suspends a run of a durable job. The handler runs again later.

Changes when suspending does.
"""


class Suspend(BaseException):
    """Leaves the handler of a durable job that only waits. What the handler awaits raises it. It is
    not an `Exception`, so handlers and libraries that catch errors do not catch it.

    If a handler catches `BaseException` and does not raise it again, the code after it is executed
    at each wait. The log has a warning.
    """


def is_suspension(error: BaseException) -> bool:
    """Whether an error is a `Suspend`, or a task group's exception group that has only these."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_suspension(each) for each in error.exceptions)
    return isinstance(error, Suspend)
