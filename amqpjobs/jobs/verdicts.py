"""What a handler may raise, or return, to say itself how its job goes on.

A new one is a class here, a clause in `amqpjobs.worker.pipeline`, and its name in `__all__`.
"""

from amqpjobs.errors import ConfigurationError


class Verdict(Exception):
    """The root of `Reject`, `RetryAfter` and `Snooze`."""


class Reject(Verdict):
    """Put this job into the dead letters now, whatever its retry policy says.

    Args:
        reason: what the person who looks at the dead letters should read.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Later(Verdict):
    def __init__(self, seconds: float) -> None:
        if not 0 <= seconds < float("inf"):
            raise ConfigurationError(f"{type(self).__name__} takes seconds from 0, not {seconds!r}")
        super().__init__(seconds)
        self.seconds = float(seconds)


class RetryAfter(_Later):
    """This run has failed; run the job again in so many seconds, instead of those of its policy.

    It uses an attempt: when there are none left, the job goes to the dead letters.
    """


class Snooze(_Later):
    """Run the job again in so many seconds. Nothing has failed: no attempt is used."""


class RateLimited(Snooze):
    """A `Snooze`, and no other job of the queue starts in this worker process meanwhile.

    Made by `Context.rate_limited`.
    """
