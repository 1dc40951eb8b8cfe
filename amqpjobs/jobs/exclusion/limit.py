"""``limit=`` of a job: how many of it run at once, anywhere.

Changes when a limit has another option.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import Seconds, number_of, seconds_above_zero

MOST = 10_000
"""Jobs at once: each has a row in the store while it runs."""

LEASE = 300.0
"""Seconds. Only a job whose message is gone keeps its slot for so long."""

LONGEST_LEASE = 86_400

LONGEST_GROUP = 100
"""Characters."""

WhenBusy: TypeAlias = Literal["wait", "skip", "replace"]


@dataclass(frozen=True, slots=True)
class Limit:
    """Run at most ``n`` of these jobs at once, in all workers together.

    As ``limit=`` of a job it counts all its runs; with ``key``, those of one key. In the annotation
    of a parameter it counts the runs that have the same value there. It needs the store.

    Args:
        n: how many at once.
        key: makes the key of the arguments. It takes parameters of the job by their names, and
            returns what can become JSON.
        group: jobs that have a limit with the same group, and the same key, count together.
        when_busy: ``"wait"``: until another one has ended. ``"skip"``: do not run it.
            ``"replace"``: cancel the one that runs; the job must be ``cancellable``.
        lease: seconds, or a timedelta, after which a slot is free whose worker is gone and whose
            message does not come again. It is renewed while the job runs.

    Raises:
        ConfigurationError: a number, a key or a time that cannot be.

    Example:
        >>> app = App("shop")
        >>> @app.job(queue="sync", limit=Limit(20))
        ... async def sync(ctx: Context, customer: Annotated[int, Limit(1)]) -> None:
        ...     print(f"customer {customer}, and no other run for it")
        >>> async with app.testing() as t:
        ...     handle = await sync.later(7)
        ...     await t.run_until_idle()
        customer 7, and no other run for it
    """

    n: int
    key: Callable[..., Any] | None = None
    group: str | None = None
    when_busy: WhenBusy = "wait"
    lease: Seconds = LEASE

    def __post_init__(self) -> None:
        n = self.n
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MOST:
            raise ConfigurationError(f"Limit: n is a number from 1 to {MOST}, not {n!r}")
        if self.key is not None and not callable(self.key):
            raise ConfigurationError(
                f"Limit: key is a function of the job's arguments, not {self.key!r}. For the value "
                "of a parameter write the limit into its annotation: "
                f"`name: Annotated[int, Limit({n})]`"
            )
        if self.group is not None and not _is_group(self.group):
            raise ConfigurationError(
                f"Limit: group is a text of 1 to {LONGEST_GROUP} characters, not {self.group!r}"
            )
        if self.when_busy not in get_args(WhenBusy):
            raise ConfigurationError(
                f'Limit: when_busy is "wait", "skip" or "replace", not {self.when_busy!r}'
            )
        seconds_above_zero("Limit: lease", self.lease, LONGEST_LEASE)

    @property
    def seconds(self) -> float:
        """``lease``, in seconds."""
        return number_of(self.lease) or LEASE


GivenLimits: TypeAlias = Limit | Sequence[Limit] | None
"""What ``limit=`` takes."""


def _is_group(group: object) -> bool:
    return isinstance(group, str) and 0 < len(group) <= LONGEST_GROUP
