"""The items of a map, read from where the last run of its job came to.

Changes when items may be given in another way.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durable.running import each_of


def total_of(items: Any) -> int | None:
    """How many there are; None if that is not known before they are read."""
    return len(items) if isinstance(items, Sequence | set | frozenset | dict) else None


def check(name: str, items: Any) -> None:
    """See whether they can be read.

    Raises:
        ConfigurationError: they cannot.
    """
    if isinstance(items, str | bytes) or not (
        hasattr(items, "__iter__") or hasattr(items, "__aiter__")
    ):
        raise ConfigurationError(
            f"ctx.map({name!r}): its items are a sequence, or an iterable, asynchronous or not, "
            f"not {type(items).__name__}"
        )


async def items_from(items: Any, first: int) -> AsyncGenerator[Any, None]:
    """The items from an index on. A sequence is read there; others are passed over up to there.

    Raises:
        Exception: what reading them raises.
    """
    if isinstance(items, Sequence):
        for index in range(first, len(items)):
            yield items[index]
        return
    passed = 0
    async for item in each_of(items):
        if passed < first:
            passed += 1
            continue
        yield item
