"""Reads heartbeat files, which `amqpjobs.telemetry.health.heartbeat` writes.

Probes run every few seconds, in a process each: this module imports little. Changes when the
content of the file does.
"""

import glob
import time
from pathlib import Path

STALE = 30.0
"""Seconds after which a heartbeat file means that its process is stuck or gone."""

OK = "ok"
"""The state of a worker that has all it needs."""

BUT = f"{OK}, but "
"""How the state begins of one that does its work, beside which something else does not go on."""


def is_ok(state: str) -> bool:
    """Whether a worker does its work."""
    return state == OK or state.startswith(BUT)


def age_of(file: Path) -> float | None:
    """Seconds since the file was touched; None if it is not there."""
    try:
        return max(0.0, time.time() - file.stat().st_mtime)
    except FileNotFoundError:
        return None


def files_of(file: Path) -> list[Path]:
    """The heartbeat file, or those of the worker processes that share its name (``--processes``):
    each has one of its own, so that one that is stuck is not covered by its neighbours."""
    shared = sorted(file.parent.glob(f"{glob.escape(file.name)}.*"))
    return [file] if file.exists() or not shared else shared


def file_of(file: Path, number: int) -> Path:
    """The heartbeat file of one of several worker processes."""
    return file.with_name(f"{file.name}.{number}")


def state_of(file: Path) -> str:
    """How the worker was when it touched the file."""
    try:
        _, _, state = file.read_text(errors="replace").strip().partition(" ")
    except OSError:
        return OK  # it has ended since its age was looked at
    return state or OK
