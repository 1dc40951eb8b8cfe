"""The steps of a durable job as a Gantt chart for Mermaid. Changes when the chart does."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amqpjobs.jobs.durable.status import DurableStatus, StepStatus

TAGS = {"done": "done", "failed": "crit", "waiting": "active", "abandoned": "crit"}


def mermaid(found: "DurableStatus", now: float | None = None) -> str:
    """The chart: a bar for each step, up to now for those that wait.

    Args:
        now: seconds since the epoch; None for the machine's time.
    """
    end = time.time() if now is None else now
    lines = [
        "gantt",
        f"    title {_plain(found.job)} {_plain(found.id)} ({found.state})",
        "    dateFormat x",
        "    axisFormat %H:%M:%S",
        f"    section {_plain(found.job)}",
        *_bars(found.steps, max(end, found.changed_at)),
    ]
    return "\n".join(lines) + "\n"


def _bars(steps: "tuple[StepStatus, ...]", now: float) -> Iterator[str]:
    for step in steps:
        if step.started_at is None:
            continue
        begin = round(step.started_at * 1000)
        # Of a length that is seen: Mermaid draws none for nothing.
        end = max(begin + 1, round((step.ended_at or now) * 1000))
        label = f"{_plain(step.name)} ({step.child})" if step.child else _plain(step.name)
        yield f"    {_plain(label)} :{TAGS.get(step.state, 'active')}, {begin}, {end}"


def _plain(text: str) -> str:
    """Without what has a meaning there."""
    return " ".join(
        "".join(" " if c in ":;#,\n\r" or not c.isprintable() else c for c in text).split()
    )
