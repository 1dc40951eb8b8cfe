"""The names of the steps that a run of a durable job asks for, and what is wrong with one.

Changes when a step may have another name, or may change in another way between two runs.
"""

import logging
import sys
from collections.abc import Mapping

from amqpjobs.errors import ConfigurationError, StepChanged
from amqpjobs.jobs.message.family import LONGEST_NAME

log = logging.getLogger("amqpjobs.durable")


class Asked:
    """The names that one run has used, and where."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Asked: {len(self)} names>"

    def __len__(self) -> int:
        return len(self._places)

    def check(self, name: object) -> None:
        """See that it can be a name.

        Raises:
            ConfigurationError: it cannot.
        """
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not _is_text(name):
            raise ConfigurationError(
                f"the name of a step is a text of 1 to {LONGEST_NAME} characters, not {name!r}"
            )

    def use(self, name: str, kind: str, known: str | None) -> None:
        """Use a name; once in a run.

        Args:
            kind: of the step.
            known: what it was in an earlier run; None if there was none.

        Raises:
            ConfigurationError: it was used before, or for another kind of step.
        """
        place = _caller()
        if (before := self._places.get(name)) is not None:
            raise ConfigurationError(
                f"two steps of one run are called {name!r}: {before} and {place}. A step is known "
                'by its name: in a loop, number them, as f"page {n}"'
            )
        self._places[name] = place
        if known is not None and known != kind:
            raise ConfigurationError(
                f"{name!r} was a {known} when this job ran before, and is a {kind} now: give it "
                "another name"
            )

    def forget(self, name: str) -> None:
        """It has failed: the handler may ask for it again, as libraries that retry do."""
        self._places.pop(name, None)


def _is_text(name: str) -> bool:
    """Whether a database can have it."""
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:  # half of a character
        return False


def arguments_changed(keys: Mapping[str, object], name: str, *, strict: bool) -> None:
    """A step that is done is asked for with other arguments.

    Args:
        keys: of log lines about the job.

    Raises:
        StepChanged: it is strict.
    """
    if strict:
        raise StepChanged(
            f"the step {name!r} was done with other arguments, and is strict: give it another "
            "name, or replay the job with --restart",
            step=name,
        )
    log.warning("step called again, its arguments changed", extra={**keys, "step": name})


def _caller() -> str:
    """Where the handler is: the innermost frame outside of amqpjobs."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("amqpjobs."):
        if frame.f_back is None:
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
