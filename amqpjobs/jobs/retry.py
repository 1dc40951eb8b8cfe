"""The retry policy: whether a job that failed runs again, and when. A value, and pure.

Changes when there is more to decide by.
"""

from dataclasses import dataclass
from typing import Final

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.exceptions import Kinds, matches, problem_with


@dataclass(frozen=True, slots=True)
class Retry:
    """When a job that failed runs again: exponential back-off with full jitter.

    With the defaults a job runs at most eight times, within about two minutes. An interrupted run
    (a worker that stopped or died) is not an attempt.

    Args:
        attempts: runs altogether, the first among them; 1 for never again, None for no end.
        first: seconds; the upper bound of the first pause.
        factor: by which the bound grows with each attempt, from 1.
        limit: seconds; the bound grows no further.
        jitter: take each pause at random between 0 and its bound, so that jobs which failed
            together do not come back together
            (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/);
            if not, each pause is its bound.
        on: classes of exceptions to retry on; on no others.
        give_up_on: classes of exceptions that go to the dead letters at once, before ``on``.

    Raises:
        ConfigurationError: a number or a class that makes no sense.

    Example:
        >>> patient = Retry(attempts=20, limit=3600, give_up_on=(PermissionError,))
        >>> @app.job(queue="reports", retry=patient)
        ... async def publish_report(month: int) -> None: ...
    """

    attempts: int | None = 8
    first: float = 1.0
    factor: float = 2.0
    limit: float = 600.0
    jitter: bool = True
    on: Kinds = Exception
    give_up_on: Kinds = ()

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigurationError(f"Retry: {problem}")

    def _problem(self) -> str | None:
        if self.attempts is not None and (isinstance(self.attempts, bool) or self.attempts < 1):
            return f"attempts is a number from 1, or None for no end, not {self.attempts!r}"
        if not 0 <= self.first < float("inf"):
            return f"first is a number of seconds from 0, not {self.first!r}"
        if not 1 <= self.factor < float("inf"):
            return f"factor is a number from 1, not {self.factor!r}"
        if not self.first <= self.limit < float("inf"):
            return f"limit is a number of seconds from first={self.first!r}, not {self.limit!r}"
        return problem_with("on", self.on) or problem_with("give_up_on", self.give_up_on)


DEFAULT_RETRY: Final = Retry()
"""Of an app that says nothing else."""


def retries(policy: Retry, error: BaseException, attempt: int) -> bool:
    """Whether a job whose run number ``attempt`` ended with this error runs again."""
    if not has_attempt_after(policy, attempt):
        return False
    return matches(error, policy.on) and not matches(error, policy.give_up_on)


def has_attempt_after(policy: Retry, attempt: int) -> bool:
    """Whether there is an attempt after run number ``attempt``."""
    return policy.attempts is None or attempt < policy.attempts


def longest_pause_after(policy: Retry, attempt: int) -> float:
    """The longest pause after run number ``attempt``, in seconds."""
    try:
        return min(policy.limit, policy.first * policy.factor ** (attempt - 1))
    except OverflowError:
        return policy.limit


def pause_after(policy: Retry, attempt: int, chance: float) -> float:
    """The pause after run number ``attempt``, in seconds.

    Args:
        policy: decides.
        attempt: from 1.
        chance: a random number from 0 to 1; there is none in here.
    """
    bound = longest_pause_after(policy, attempt)
    return bound * chance if policy.jitter else bound


def longest_pause(policy: Retry) -> float:
    """The longest pause that there can be, in seconds."""
    if policy.attempts is None:
        return policy.limit if policy.factor > 1 else policy.first
    return longest_pause_after(policy, policy.attempts - 1) if policy.attempts > 1 else 0.0
