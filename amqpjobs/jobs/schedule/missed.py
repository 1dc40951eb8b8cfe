"""What of a schedule is sent now: what is due, and what of the missed is made up for.

Changes when there is another policy for what was missed.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from amqpjobs.jobs.message.tick import How
from amqpjobs.jobs.schedule.dues import dues_between, last_between
from amqpjobs.jobs.schedule.schedule import Schedule, within_of

ON_TIME: Final = 10.0
"""Seconds after which what was due counts as missed: longer than a look at the store takes."""

MOST: Final = 100
"""Jobs of one schedule that are sent at once, whatever it has missed."""


class Due(NamedTuple):
    """A time of a schedule for which a job is sent.

    Attributes:
        due: seconds since the epoch.
        how: ``"cron"`` for what is due now, ``"missed"`` for what is made up for.
    """

    due: float
    how: How


def missed_of(schedule: Schedule, previous: float, now: float) -> list[Due]:
    """What of a schedule is to be sent now, the oldest first.

    What was due in the last 10 seconds is not missed: each of these times is sent, whatever the
    policy is. Of what was due before that, not longer ago than ``within``: the newest time if
    nothing is due now (``missed="latest"``), nothing (``"skip"``), or all (``"all"``). They are 100
    together at most: the newest. The caller goes on from `now`, not from the last of these: what is
    not among them is never sent.

    Args:
        previous: the last time that was looked at, in seconds since the epoch: itself left out. If
            it lies ahead, since the clock was set back, nothing is due.
        now: seconds since the epoch.
    """
    late = now - ON_TIME
    fresh = _newest(schedule, max(previous, late - 1), now)
    sent = [Due(due, "cron") for due in fresh if due >= late]
    if schedule.missed == "skip" or (sent and schedule.missed == "latest"):
        return sent
    oldest = max(previous, now - within_of(schedule) - 1)  # 1: that the bound itself counts
    until = sent[0].due - 1 if sent else min(now, late)
    if schedule.missed == "latest":
        last = last_between(schedule, oldest, until)
        found = [] if last is None else [last]
    else:
        found = _newest(schedule, oldest, until)
    kept = [Due(due, "missed") for due in found if due >= now - within_of(schedule)]
    return (kept + sent)[-MOST:]


def _newest(schedule: Schedule, after: float, until: float) -> list[float]:
    """The newest times after the one and until the other, oldest first."""
    dues = dues_between(schedule, after, until, MOST + 1)
    if len(dues) <= MOST:
        return dues
    return list(reversed(list(islice(_backwards(schedule, after, until), MOST))))


def _backwards(schedule: Schedule, after: float, until: float) -> Iterator[float]:
    while (last := last_between(schedule, after, until)) is not None:
        yield last
        until = last - 1
