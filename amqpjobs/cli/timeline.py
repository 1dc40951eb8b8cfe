"""The steps of a durable job as a Gantt chart for Mermaid. Changes when the chart does."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amqpjobs.jobs.durable.status import DurableStatus, StepStatus

TAGS = {"done": "done", "failed": "crit", "waiting": "active", "abandoned": "crit"}


def mermaid(found: "DurableStatus", now: float | None = None) -> str:
    """Draw the chart: a bar for each step. The bar of a step that waits ends now.

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
        # At least 1 ms: Mermaid draws no bar of length zero.
        end = max(begin + 1, round((step.ended_at or now) * 1000))
        label = f"{_plain(step.name)} ({step.child})" if step.child else _plain(step.name)
        yield f"    {_plain(label)} :{TAGS.get(step.state, 'active')}, {begin}, {end}"


def _plain(text: str) -> str:
    """The text without the characters that are syntax in Mermaid."""
    return " ".join(
        "".join(" " if c in ":;#,\n\r" or not c.isprintable() else c for c in text).split()
    )
