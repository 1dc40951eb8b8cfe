"""Checks the names and arguments of the steps in one run of a durable job.

Changes when a step may have another name, or may change in another way between two runs.
"""

import logging
import sys
from collections.abc import Mapping

from amqpjobs.errors import ConfigurationError, StepChanged
from amqpjobs.jobs.message.family import LONGEST_NAME

log = logging.getLogger("amqpjobs.durable")


class Asked:
    """The names of the steps that one run has used, each with its place in the source."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Asked: {len(self)} names>"

    def __len__(self) -> int:
        return len(self._places)

    def check(self, name: object) -> None:
        """Check the name of a step.

        Raises:
            ConfigurationError: it is empty, too long, or not a text that a database can store.
        """
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not _is_text(name):
            raise ConfigurationError(
                f"the name of a step must be a text of 1 to {LONGEST_NAME} characters, not {name!r}"
            )

    def use(self, name: str, kind: str, known: str | None) -> None:
        """Use a name, at most once in a run.

        Args:
            kind: of the step.
            known: the kind of this step in an earlier run; None if there was no such step.

        Raises:
            ConfigurationError: the name was used before, or for another kind of step.
        """
        place = _caller()
        if (before := self._places.get(name)) is not None:
            raise ConfigurationError(
                f"two steps of one run have the name {name!r}: {before} and {place}. Give each "
                'step its own name, in a loop with a number: f"page {n}"'
            )
        self._places[name] = place
        if known is not None and known != kind:
            raise ConfigurationError(
                f"{name!r} was a {known} in an earlier run of this job and is a {kind} now: give "
                "it another name"
            )

    def forget(self, name: str) -> None:
        """Release the name of a step that failed. The handler may call it again, as retry libraries
        do."""
        self._places.pop(name, None)


def _is_text(name: str) -> bool:
    """Whether a database can store the text."""
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:  # half of a character
        return False


def arguments_changed(keys: Mapping[str, object], name: str, *, strict: bool) -> None:
    """Handle a call of a step that is done, with other arguments: fail if it is strict, else warn.

    Args:
        keys: of log lines about the job.

    Raises:
        StepChanged: the step is strict.
    """
    if strict:
        raise StepChanged(
            f"the strict step {name!r} was done with other arguments: give it another name, or "
            "replay the job with --restart",
            step=name,
        )
    log.warning("step called again, its arguments changed", extra={**keys, "step": name})


def _caller() -> str:
    """The place in the handler: the innermost frame outside of amqpjobs."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("amqpjobs."):
        if frame.f_back is None:
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
