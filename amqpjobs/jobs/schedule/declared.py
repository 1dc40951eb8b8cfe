"""The schedules of a job: what ``schedule=`` was given, and their names.

Changes when schedules are named otherwise.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.schedule.schedule import Cron, Every, GivenSchedules, Schedule

MOST: Final = 100
"""Schedules of one job."""


class Declared(NamedTuple):
    """A schedule of an app.

    Attributes:
        name: of the schedule, in its app.
        job: the name of the job.
        schedule: when it is due.
    """

    name: str
    job: str
    schedule: Schedule


METHOD: Final = (
    "schedule= is for a function, and a method needs an object: write a function that makes it"
)
"""What is wrong with a method that has a schedule."""


def checked_schedules(
    given: GivenSchedules, fail: Callable[[str], ConfigurationError]
) -> tuple[Schedule, ...]:
    """What ``schedule=`` was given, as a tuple.

    Args:
        given: by a user.
        fail: makes an error that names the job.

    Raises:
        ConfigurationError: it is no schedule, or too many.
    """
    if given is None:
        return ()
    several: tuple[object, ...] = tuple(given) if isinstance(given, list | tuple) else (given,)
    schedules = tuple(each for each in several if isinstance(each, Cron | Every))
    for each in several:
        if each not in schedules:
            written = f"Cron({each!r})" if isinstance(each, str) else "Every(minutes=5)"
            raise fail(
                f"schedule is a Cron(...) or an Every(...), or a list of them, not {each!r}: write "
                f"schedule={written}"
            )
    if len(schedules) > MOST:
        raise fail(f"a job has up to {MOST} schedules, not {len(schedules)}")
    return schedules


def argument_problem(parameter: str) -> str:
    """What is wrong with a job that has a schedule and takes this argument."""
    return (
        f"schedule= sends it without arguments, and parameter {parameter!r} has no default: give "
        "it one, inject it by Depends, or take the Context, whose `tick` says what it is due for"
    )


def declared(schedules: Sequence[Schedule], job: str, given_name: str) -> list[Declared]:
    """The schedules of a job with their names.

    One that has no name of its own is called as the job, and further ones ``job#2``, ``job#3``, in
    their order: those that have one do not count. So what is added at the end, or with a name,
    leaves the others their names. The prefix of a router is in front of all.

    Args:
        job: its name.
        given_name: the same without the prefix.
    """
    prefix = job.removesuffix(given_name)
    found, count = [], 0
    for schedule in schedules:
        if schedule.name is not None:
            name = prefix + schedule.name
        else:
            count += 1
            name = job if count == 1 else f"{job}#{count}"
        found.append(Declared(name, job, schedule))
    return found
