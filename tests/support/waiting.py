"""Waiting for conditions: the tests' only way to let time pass."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

PATIENCE = 20.0
"""Seconds; many times what any condition takes on a busy machine with two cores."""


async def until(
    condition: Callable[[], Any | Awaitable[Any]], what: str, timeout: float = PATIENCE
) -> Any:
    """Wait for a true value, and return it; the condition may be a coroutine function."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"after {timeout:g} s still not: {what}"
        await asyncio.sleep(0.02)
