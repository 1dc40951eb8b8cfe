"""Batches: what ``batch=`` of ``@app.job`` says, and how a handler of many is called with one.

Changes when a batch has another option, or its handler another form.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

from amqpjobs.errors import BatchFailed, ConfigurationError, InvalidResult
from amqpjobs.jobs.durations import Seconds, seconds_above_zero

LARGEST = 10_000
"""Jobs. A worker holds as many deliveries in memory, twice."""

LONGEST = 3600
"""Seconds for which a batch may be collected: its jobs are held unacked meanwhile."""

LONGEST_EACH = 300.0
"""Seconds for which the jobs of a batch that has failed are run one by one. RabbitMQ takes back
what is not settled for long, and a worker tells it of no more than this beyond the timeout of its
jobs."""

OnFailure: TypeAlias = Literal["each", "together"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Run jobs many at a time, in one call of their handler.

    A batch is run when it has ``size`` jobs, or ``within`` seconds after its first one.

    Args:
        size: jobs in a batch, at most.
        within: seconds, or a timedelta, for which a smaller batch is collected.
        on_failure: what follows when the handler raises. ``"each"``: its jobs run again at once,
            one by one, and only those that fail then are retried or dead-lettered. ``"together"``:
            all have failed, and are retried as the job's policy says.

    Raises:
        ConfigurationError: a size or a time that cannot be.

    Example:
        >>> app = App("shop")
        >>> @app.job(queue="clicks", batch=Batch(100, within=0.5))
        ... async def insert(clicks: list[str]) -> None:
        ...     print(f"{len(clicks)} inserted")
        >>> async with app.testing() as t:
        ...     for page in ("/", "/shop", "/cart"):
        ...         handle = await insert.later(page)
        ...     await t.advance(0.5)
        3 inserted
    """

    size: int
    within: Seconds = 1.0
    on_failure: OnFailure = "each"

    def __post_init__(self) -> None:
        size = self.size
        if not isinstance(size, int) or isinstance(size, bool) or not 2 <= size <= LARGEST:
            raise ConfigurationError(f"Batch: size is a number from 2 to {LARGEST}, not {size!r}")
        seconds_above_zero("Batch: within", self.within, LONGEST)
        if self.on_failure not in ("each", "together"):
            raise ConfigurationError(
                f'Batch: on_failure is "each" or "together", not {self.on_failure!r}'
            )

    @property
    def seconds(self) -> float:
        """``within``, in seconds."""
        return self.within.total_seconds() if isinstance(self.within, timedelta) else self.within


class Rows(list[Any]):
    """The arguments of a whole batch, where a call has those of one job."""


def element_of(hint: Any) -> Any:
    """The type of one job's argument, for the handler's ``list[T]``; None where it is no list."""
    given = get_args(hint)
    return given[0] if get_origin(hint) is list and len(given) == 1 else None


def result_of(hint: Any) -> Any:
    """The annotation of one job's result, for what the handler of a batch returns."""
    if get_origin(hint) in (Union, UnionType):
        return Union[tuple(result_of(each) for each in get_args(hint))]  # noqa: UP007
    if hint in (None, NoneType):
        return NoneType
    return element_of(hint) or Any


def taking_one(handler: Callable[..., Awaitable[Any]], name: str) -> Callable[..., Awaitable[Any]]:
    """A handler of batches that takes what one job has: a batch of one. It takes `Rows`, too.

    Args:
        handler: an ``async def``.
        name: of its parameter for the list.
    """

    async def handle(*args: Any, **kwargs: Any) -> object:
        given = kwargs[name] if name in kwargs else args[-1]
        whole = type(given) is Rows
        rows = list(given) if whole else [given]
        if name in kwargs:
            call = handler(*args, **{**kwargs, name: rows})
        else:
            call = handler(*args[:-1], rows, **kwargs)
        if whole:
            return await call
        try:
            result = await call
        except BatchFailed as failed:
            error = errors_of(failed, 1).get(0)
            if error is not None:
                raise error from None
            result = failed.results
        return results_of(result, 1)[0]

    return handle


def results_of(result: object, count: int) -> list[object]:
    """The result of each job of a batch.

    Raises:
        InvalidResult: it is neither None nor a list with one for each.
    """
    if result is None:
        return [None] * count
    if isinstance(result, list) and len(result) == count:
        return result
    found = f"a list of {len(result)}" if isinstance(result, list) else type(result).__name__
    raise InvalidResult(
        f"the handler of a batch of {count} returned {found}: return None, or a list with the "
        "result of each job, in their order"
    )


def errors_of(failed: BatchFailed, count: int) -> dict[int, BaseException]:
    """The error of each job that has failed, by its place.

    Raises:
        InvalidResult: a place that the batch does not have, or what is no exception.
    """
    for place, error in failed.errors.items():
        if place not in range(count) or not isinstance(error, BaseException):
            raise InvalidResult(
                f"BatchFailed says {error!r} of job {place!r}: its keys are places in the list, "
                f"here from 0 to {count - 1}, and its values are exceptions"
            )
    return dict(failed.errors)
