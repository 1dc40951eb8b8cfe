"""A control group of Linux with little memory: the kernel's own out-of-memory kill, on request."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")
LIMITS = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.swap.max")
"""What bounds memory, and memory with swap, in version 1 and in version 2."""


@contextmanager
def memory_group(limit: int) -> Iterator[tuple[str, ...]]:
    """A group whose processes have `limit` bytes together.

    Yields:
        What goes in front of a command that is to run in it.

    Raises:
        OSError: this user may not make one here.
    """
    parent = V1 if V1.is_dir() else V2
    group = parent / f"amqpjobs-{os.getpid()}"
    group.mkdir()
    try:
        for name in LIMITS:
            if (group / name).exists():
                (group / name).write_text("0" if name == "memory.swap.max" else str(limit))
        if not any((group / name).exists() for name in ("memory.limit_in_bytes", "memory.max")):
            raise OSError(f"{group} does not bound memory: its parent does not pass that on")
        enter = f'echo $$ > {group / "cgroup.procs"} && exec "$@"'
        yield ("sh", "-c", enter, "sh")
    finally:
        group.rmdir()
