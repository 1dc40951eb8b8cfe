"""The results of commands on dead letters. Changes when there is more to report."""

from collections import Counter
from dataclasses import dataclass, field

from amqpjobs.broker.rabbitmq.inspection.scan import Scan
from amqpjobs.client.deadletters.letter import Group, Letter
from amqpjobs.errors import PublishError

MAX_ERRORS = 20
"""Different errors that are kept; a name in each would make as many as there are letters."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """Dead letters that another consumer held or removed meanwhile.

    Attributes:
        place: the AMQP queue.
        total: how many were to be looked at.
        missed: how many of them did not come.
        others: how many consumed it before: what they held is in no number.
    """

    place: str
    total: int
    missed: int
    others: int

    def __str__(self) -> str:
        if self.missed:
            return (
                f"{self.missed} of {self.total} in {self.place} were not seen: another consumer "
                "held or removed them"
            )
        return (
            f"another command reads {self.place} (consumers: {self.others}): what it holds was "
            "not seen"
        )


@dataclass(slots=True)
class Gone:
    """Progress of a command on dead letters.

    Attributes:
        total: letters that were there when it began, of the places it has come to.
        seen: how many of these it has looked at.
        unseen: of each place what it could not look at.
        missing: ids and groups that no letter had.
    """

    total: int = 0
    seen: int = 0
    unseen: list[Unseen] = field(default_factory=list)
    missing: tuple[str, ...] = ()

    def note(self, scan: "Scan[Letter]", *, whole: bool) -> None:
        """Add what one place was.

        Args:
            whole: whether it was gone through to its end.
        """
        missed = scan.total - scan.seen if whole else 0
        if missed > 0 or scan.consumers:
            self.unseen.append(Unseen(scan.queue, scan.total, max(0, missed), scan.consumers))


@dataclass(slots=True)
class Look(Gone):
    """What was found. All of it is still there.

    Attributes:
        letters: in the order of their places, oldest first; empty if only groups were asked for.
        groups: the largest first.
        more: whether there is more than was asked for.
    """

    letters: list[Letter] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    more: bool = False


@dataclass(slots=True)
class Moved(Gone):
    """What was done.

    Attributes:
        done: letters that were sent and confirmed, or discarded, or written; with ``dry_run``:
            that would be.
        failed: letters that are still where they were.
        doubtful: letters that were sent and confirmed when the connection went away: they may still
            be where they were, too.
        targets: how many of ``done`` went to which AMQP queue.
        errors: why letters failed, and how many for each reason.
        absent: AMQP queues of ``targets`` that are not there: only ``dry_run`` looks for them.
        stopped: RabbitMQ took no more, and the rest was not tried.
        refused: of an import: the first line that was not taken.
    """

    done: int = 0
    failed: int = 0
    doubtful: int = 0
    targets: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    absent: tuple[str, ...] = ()
    stopped: bool = False
    refused: int | None = None

    def succeed(self, target: str) -> None:
        """One more is done."""
        self.done += 1
        self.targets[target] += 1

    def refuse(self, number: int) -> None:
        """A line was not taken."""
        self.refused = number if self.refused is None else min(self.refused, number)

    def fail(self, error: PublishError) -> None:
        """One more could not be sent."""
        self.failed += 1
        text = str(error)
        if text in self.errors or len(self.errors) < MAX_ERRORS:
            self.errors[text] += 1
