"""Limits for jobs that have no timeout of their own.

Changes when there is another way to say which jobs have which limit.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from amqpjobs.jobs.context import Context
from amqpjobs.jobs.durations import LONGEST_DELAY, Seconds, seconds_above_zero


class Timeouts:
    """Processing middleware: a time limit for jobs without ``timeout=``.

    A job that runs longer fails as by a timeout of its own: ``async def`` is cancelled, a process
    killed; a thread cannot be ended, and runs on unobserved. The middleware behind this one has to
    end within the limit, too. The time in which a batch is collected counts: give such a job a
    ``timeout`` of its own.

    Args:
        default: seconds, or a timedelta; None for no limit but those below.
        jobs: limits by the name of the job, before those of queues; None for none.
        queues: limits by the name of the queue; None for none.

    Raises:
        ConfigurationError: not a duration above zero.

    Example:
        >>> from amqpjobs.contrib.timeouts import Timeouts
        >>> limits = Timeouts(60, queues={"reports": 3600}, jobs={"rebuild_index": None})
        >>> limited = App("shop", processing=[limits])
    """

    def __init__(
        self,
        default: Seconds | None = None,
        *,
        jobs: Mapping[str, float | timedelta | None] | None = None,
        queues: Mapping[str, float | timedelta | None] | None = None,
    ) -> None:
        self._default = _seconds("default", default)
        self._jobs = {name: _seconds(name, given) for name, given in (jobs or {}).items()}
        self._queues = {name: _seconds(name, given) for name, given in (queues or {}).items()}

    def __repr__(self) -> str:
        return f"<Timeouts: {self._default} s by default>"

    async def __call__(
        self, call_next: Callable[[Context], Awaitable[object]], context: Context
    ) -> object:
        """See `amqpjobs.jobs.middleware.Processing`.

        Raises:
            JobTimeout: it ran longer.
        """
        if context.timeout is not None:
            return await call_next(context)
        # Here: a module of jobs, which names this class, is imported by programs without a worker.
        from amqpjobs.worker.execution.handlers import within

        of_queue = self._queues.get(context.queue, self._default)
        return await within(self._jobs.get(context.job, of_queue), call_next(context))


def _seconds(name: str, given: Seconds | None) -> float | None:
    if given is None:
        return None
    return seconds_above_zero(f"the limit {name!r} of Timeouts", given, LONGEST_DELAY)
