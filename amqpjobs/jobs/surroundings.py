"""Where a job runs: in a worker, in a process of one, or by itself; and what it can know from that.

Changes when a run may ask something else of what is declared.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import NamedTuple, Protocol

from amqpjobs.jobs.message.carried import policy_of
from amqpjobs.jobs.retry import Retry, has_attempt_after, retries
from amqpjobs.jobs.verdicts import Reject, RetryAfter, Snooze


class Declared(Protocol):
    """What a run asks of the definition of its job."""

    timeout: float | None
    policy: Retry
    at_most_once: bool


class Surroundings(NamedTuple):
    """What runs jobs here.

    Attributes:
        jobs: of the app, by name.
        time: the clock of the app, in seconds since the epoch.
        retries: whether jobs run again here; False for a run by itself.
        app: what sends the jobs of its routers.
    """

    jobs: Mapping[str, Declared]
    time: Callable[[], float]
    retries: bool = True
    app: object | None = None


surroundings: ContextVar[Surroundings | None] = ContextVar("amqpjobs_surroundings", default=None)
"""None where no worker is. A variable, so that no run has to be given it."""


def timeout_here(job: str) -> float | None:
    """The declared timeout of a job, in seconds; None for none, and where no worker is."""
    here = surroundings.get()
    declared = None if here is None else here.jobs.get(job)
    return None if declared is None else declared.timeout


def runs_again(
    job: str,
    attempt: int,
    deadline: float | None,
    error: BaseException | None = None,
    carried: Retry | None = None,
) -> bool:
    """Whether a job runs again after a run that has failed.

    Args:
        attempt: which run it was, from 1.
        deadline: of the job, in seconds since the epoch.
        error: what it failed with; None for an error of a kind that is retried.
        carried: the policy that its message carries.
    """
    here = surroundings.get()
    if here is None or not here.retries or isinstance(error, Reject):
        return False
    declared = here.jobs.get(job)
    if declared is None or (deadline is not None and here.time() >= deadline):
        return False
    if isinstance(error, Snooze):
        return True
    if declared.at_most_once:
        return False
    policy = declared.policy if carried is None else policy_of(carried, declared.policy)
    if error is None or isinstance(error, RetryAfter):
        return has_attempt_after(policy, attempt)
    return retries(policy, error, attempt)
