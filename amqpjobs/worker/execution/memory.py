"""The memory ceiling of a job process. Changes when memory is limited in another way."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAGE = os.sysconf("SC_PAGESIZE")

WEAR = 4
"""A job with a limit is not run where earlier jobs left behind more than a quarter of it."""


class Memory:
    """How much of this process's address space is there because of jobs that ran before: caches,
    late imports, leaks, freed memory that was not given back."""

    def __init__(self) -> None:
        self._own = address_space()

    @contextmanager
    def used_by_code(self) -> Iterator[None]:
        """What is taken meanwhile would be taken in any process."""
        before = address_space()
        try:
            yield
        finally:
            self._own += address_space() - before

    def is_worn(self, limit: int | None) -> bool:
        """Whether a job with this limit could fail here for what others have left behind."""
        return limit is not None and address_space() - self._own > limit // WEAR


@contextmanager
def limited_to(limit: int | None) -> Iterator[None]:
    """For the time of a job, let allocations beyond so many bytes of address space fail.

    The soft limit only (setrlimit(2)), so that it can be lifted again, and a stricter one of the
    operator's stays.
    """
    if limit is None:
        yield
        return
    lifted = resource.getrlimit(resource.RLIMIT_AS)
    bounds = [b for b in (limit, *lifted) if b != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), lifted[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, lifted)


def address_space() -> int:
    """Bytes of address space in use (proc(5), statm); 0 where it cannot be known."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * PAGE
