"""Selects dead letters. Changes when there is another condition to select by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from amqpjobs.client.deadletters.letter import Letter, is_group
from amqpjobs.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Selection:
    """The conditions that a dead letter must meet, all of them. Without any: every letter.

    Attributes:
        which: ids of jobs, how such ids begin, or ids of groups; one of them is enough.
        job: the job's name.
        reason: why it was put aside, such as ``failed``.
        exception: the exception's name, with or without its module.
        since: put aside at this time or later: seconds since the epoch. A letter that does not say
            when is not chosen by a time.
        until: put aside before this time.
        queues: the app's queues that they are of.

    Raises:
        ConfigurationError: one of ``which`` is empty, and would be how every id begins.
    """

    which: tuple[str, ...] = ()
    job: str | None = None
    reason: str | None = None
    exception: str | None = None
    since: float | None = None
    until: float | None = None
    queues: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if "" in self.which:
            raise ConfigurationError("the id of a job, or how it begins, is not empty")

    @property
    def chooses(self) -> bool:
        """Whether it leaves anything out."""
        return self != Selection(queues=self.queues)

    @property
    def beginnings(self) -> tuple[str, ...]:
        """Those of ``which`` that are ids of jobs, or how they begin."""
        return tuple(name for name in self.which if not is_group(name))

    def exactly(self, ids: dict[str, str]) -> "Selection":
        """The same, with whole ids in place of beginnings."""
        return replace(self, which=tuple(ids.get(name, name) for name in self.which))


EVERYTHING = Selection()


class Choice:
    """A selection at work: says of each letter whether it is meant, and what met nothing."""

    def __init__(self, selection: Selection, *, ids_are_whole: bool = False) -> None:
        self._selection = selection
        self._ids_are_whole = ids_are_whole
        self._met: set[str] = set()

    @property
    def missing(self) -> tuple[str, ...]:
        """Those of ``which`` that no letter was."""
        return tuple(name for name in self._selection.which if name not in self._met)

    def takes(self, letter: Letter) -> bool:
        """Whether a dead letter is selected."""
        wanted, failure = self._selection, letter.failure
        if wanted.queues and letter.queue not in wanted.queues:
            return False
        if wanted.job is not None and letter.job != wanted.job:
            return False
        if wanted.reason is not None and (failure is None or failure.reason != wanted.reason):
            return False
        if wanted.exception is not None and not _named(letter, wanted.exception):
            return False
        return self._in_time(letter.time) and self._is_one_of(letter)

    def _in_time(self, time: float | None) -> bool:
        since, until = self._selection.since, self._selection.until
        if since is None and until is None:
            return True
        if time is None:
            return False
        return (since is None or time >= since) and (until is None or time < until)

    def _is_one_of(self, letter: Letter) -> bool:
        which = self._selection.which
        if not which:
            return True
        met = [name for name in which if self._is(letter, name)]
        self._met.update(met)
        return bool(met)

    def _is(self, letter: Letter, name: str) -> bool:
        if is_group(name):
            return letter.group == name
        if self._ids_are_whole:
            return letter.id == name
        return (letter.id or "").startswith(name)


def _named(letter: Letter, exception: str) -> bool:
    name = letter.failure.exception if letter.failure else None
    return name is not None and (name == exception or name.rpartition(".")[2] == exception)


def whole_ids(beginnings: Sequence[str], letters: Iterable[Letter]) -> dict[str, str]:
    """The id that each beginning stands for; an id that is there whole stands for itself.

    Raises:
        ConfigurationError: it begins several.
    """
    ids = {letter.id for letter in letters if letter.id}
    found: dict[str, str] = {}
    for name in beginnings:
        meant = sorted(id_ for id_ in ids if id_.startswith(name))
        if name in ids or not meant:
            continue
        if len(meant) > 1:
            raise ConfigurationError(
                f"{len(meant)} jobs have an id that begins with {name!r}: {', '.join(meant[:5])}"
                f"{', ...' if len(meant) > 5 else ''}; give more of it"
            )
        found[name] = meant[0]
    return found
