"""What a handler may raise, or return, to say itself how its job goes on.

A new one is a class here, a clause in `amqpjobs.worker.pipeline`, and its name in `__all__`.
"""

from amqpjobs.jobs.durations import Seconds, seconds_from_zero


class Verdict(Exception):
    """The root of `Reject`, `RetryAfter`, `Snooze` and `Undo`."""


class Reject(Verdict):
    """Put this job into the dead letters now, whatever its retry policy says.

    Args:
        reason: shown with the dead letter.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Undo(Verdict):
    """End a durable job and run the ``undo=`` jobs of its steps and calls. The job has failed and
    is not dead-lettered. Any other job that raises it is rejected.

    Args:
        reason: shown in the status of the job, and in the `JobFailed` of a durable job that has
            called it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Later(Verdict):
    def __init__(self, seconds: Seconds) -> None:
        number = seconds_from_zero(f"the pause of {type(self).__name__}", seconds)
        super().__init__(number)
        self.seconds = float(number)


class RetryAfter(_Later):
    """This run has failed; run the job again in so many seconds, instead of those of its policy.

    It uses an attempt: when there are none left, the job goes to the dead letters.

    Args:
        seconds: from 0 to 8.5 years; or a timedelta.

    Raises:
        ConfigurationError: another number, or what is no duration.
    """


class Snooze(_Later):
    """Run the job again in so many seconds. Nothing has failed: no attempt is used.

    Args:
        seconds: from 0 to 8.5 years; or a timedelta.

    Raises:
        ConfigurationError: another number, or what is no duration.
    """


class RateLimited(Snooze):
    """A `Snooze`, and no other job of the queue starts in this worker process meanwhile.

    Made by `Context.rate_limited`.
    """
