"""``unique=`` and ``debounce=`` of a job: calls that are one job.

Changes when one of them has another option.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import Seconds, number_of, seconds_above_zero

LONGEST = 31_536_000
"""Seconds, a year."""

GivenKey: TypeAlias = str | Sequence[str] | Callable[..., Any] | None
"""What ``key=`` takes: the name of a parameter, several, a function of the arguments, or nothing
for all arguments."""


@dataclass(frozen=True, slots=True)
class Unique:
    """While a job of a key has not ended, another call is that job: ``later`` returns its handle,
    with `JobHandle.existing`. It needs the store.

    Args:
        key: a parameter's name, or several; a function that takes parameters of the job by their
            names; None for all arguments.
        until: ``"end"``: until the job is done, has failed for good, expired or was cancelled; over
            its retries too. ``"start"``: until it starts.
        ttl: seconds, or a timedelta, from when it may be started, after which another call is a new
            job in any case: what a job leaves behind that is lost.

    Raises:
        ConfigurationError: a key or a time that cannot be.

    Example:
        >>> app = App("shop")
        >>> @app.job(queue="index", unique=Unique(key="document"))
        ... async def index(document: int, text: str = "") -> None:
        ...     print(f"document {document}")
        >>> async with app.testing() as t:
        ...     first = await index.later(7)
        ...     second = await index.later(7)
        ...     print(second.existing, second.id == first.id)
        ...     await t.run_until_idle()
        True True
        document 7
    """

    key: GivenKey = None
    until: Literal["end", "start"] = "end"
    ttl: Seconds = 3600.0

    def __post_init__(self) -> None:
        check_key("Unique", self.key)
        if self.until not in ("end", "start"):
            raise ConfigurationError(f'Unique: until is "end" or "start", not {self.until!r}')
        seconds_above_zero("Unique: ttl", self.ttl, LONGEST)

    @property
    def seconds(self) -> float:
        """``ttl``, in seconds."""
        return number_of(self.ttl) or 0.0


@dataclass(frozen=True, slots=True)
class Debounce:
    """Run once when calls of a key have stopped coming for a while, with the newest arguments. It
    needs the store.

    Args:
        seconds: or a timedelta, without a call, after which the job is sent.
        key: as that of `Unique`.
        at_most: seconds, or a timedelta, after the first call, at which it is sent in any case.
        last: whether it also waits for the job of its key that runs: then one runs, and one waits
            with the newest arguments. Without it they may run at once.

    Raises:
        ConfigurationError: a key or a time that cannot be.

    Example:
        >>> app = App("shop")
        >>> @app.job(queue="index", debounce=Debounce(5, key="document"))
        ... async def index(document: int, text: str) -> None:
        ...     print(f"document {document}: {text}")
        >>> async with app.testing() as t:
        ...     for text in ("a", "ab", "abc"):
        ...         handle = await index.later(7, text)
        ...     await t.advance(5)
        document 7: abc
    """

    seconds: Seconds
    key: GivenKey = None
    at_most: Seconds = 60.0
    last: bool = False

    def __post_init__(self) -> None:
        seconds_above_zero("Debounce: seconds", self.seconds, LONGEST)
        check_key("Debounce", self.key)
        most = seconds_above_zero("Debounce: at_most", self.at_most, LONGEST)
        if most < self.quiet:
            raise ConfigurationError(
                f"Debounce: at_most={self.at_most!r} is less than the {self.quiet:g} seconds that "
                "it waits for in any case: give at least as many"
            )

    @property
    def quiet(self) -> float:
        """``seconds``, as a number."""
        return number_of(self.seconds) or 0.0

    @property
    def longest(self) -> float:
        """``at_most``, as a number of seconds."""
        return number_of(self.at_most) or 0.0


def check_key(what: str, key: object) -> None:
    """See that a key is one, as far as that can be told without the job."""
    if key is None or callable(key) or (isinstance(key, str) and key):
        return
    if isinstance(key, list | tuple) and key and all(isinstance(name, str) for name in key):
        return
    raise ConfigurationError(
        f"{what}: key is the name of a parameter, a list of names, or a function of the arguments, "
        f"not {key!r}"
    )
