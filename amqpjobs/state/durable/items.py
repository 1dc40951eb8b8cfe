"""Reads the items of a map from the position of the last run.

Changes when items may be passed in another way.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durable.running import each_of


def total_of(items: Any) -> int | None:
    """The number of items; None if it is not known before they are read."""
    return len(items) if isinstance(items, Sequence | set | frozenset | dict) else None


def check(name: str, items: Any) -> None:
    """Check that the items are an iterable.

    Raises:
        ConfigurationError: they are not.
    """
    if isinstance(items, str | bytes) or not (
        hasattr(items, "__iter__") or hasattr(items, "__aiter__")
    ):
        raise ConfigurationError(
            f"ctx.map({name!r}): items must be a sequence, an iterable or an async iterable, "
            f"not {type(items).__name__}"
        )


async def items_from(items: Any, first: int) -> AsyncGenerator[Any, None]:
    """The items from an index on. A sequence is sliced. Items of an iterable are skipped.

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
