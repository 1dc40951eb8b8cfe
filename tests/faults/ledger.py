"""What a run promised and what became of it: three append-only files, and an oracle over them.

The publisher writes the id of a job before it tries to send it, and again when the broker has
confirmed it; both are on the disk before it goes on. Every effect of a job is one line, written
with one call, so that processes that die at any moment leave whole lines only.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

SHOWN: Final = 20
"""How many ids of each kind a failure shows."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One run of a job that came to its end.

    Attributes:
        id: the job's id.
        attempt: which run its context said it was.
        pid: the worker.
        start: seconds since the epoch.
        end: seconds since the epoch.
        note: whatever the job wants to say.
    """

    id: str
    attempt: int
    pid: int
    start: float
    end: float
    note: str = ""


class LedgerBroken(AssertionError):
    """The promise was broken; the message has the seed and the history."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the oracle found.

    Attributes:
        attempted, confirmed, effects, dead: how many.
        lost: confirmed, and neither done nor dead-lettered. Must be empty.
        phantom: done, and never published. Must be empty.
        duplicates: ids that were done more than once, with how often too many.
    """

    attempted: int
    confirmed: int
    effects: int
    dead: int
    lost: tuple[str, ...]
    phantom: tuple[str, ...]
    duplicates: dict[str, int]

    @property
    def repeated(self) -> int:
        """How many effects were one too many."""
        return sum(self.duplicates.values())

    def __str__(self) -> str:
        return (
            f"{self.attempted} attempted, {self.confirmed} confirmed, {self.effects} effects, "
            f"{self.dead} dead, {len(self.lost)} lost, {len(self.phantom)} phantom, "
            f"{self.repeated} duplicated"
        )


class Ledger:
    """The files of one run.

    Args:
        folder: where they are; made if missing.
        seed: of the run's random choices, for whoever wants to see the same again.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.seed = seed
        self.effects_file = folder / "effects"
        self.faults = 0
        self.notes: list[str] = []
        self.checked: tuple[Verdict, int] | None = None
        self._began = time.time()
        self._history: list[tuple[float, str]] = []
        self._files = {
            name: os.open(folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            for name in ("attempted", "confirmed", "effects")
        }

    def __repr__(self) -> str:
        return f"<Ledger in {self.folder}: seed {self.seed}>"

    def close(self) -> None:
        """Close the files; what they say stays."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()

    def tell(self, event: str) -> None:
        """Add something that happened to the history."""
        self._history.append((time.time(), event))

    def fault(self, event: str, count: int = 1) -> None:
        """Add a fault to the history, and count it."""
        self.faults += count
        self.tell(event)

    def measured(self, what: str) -> None:
        """Add a measurement to the history, and to the run's closing line."""
        self.notes.append(what)
        self.tell(what)

    @property
    def last_events(self) -> str:
        """The end of the history."""
        return "\n".join(event for _, event in self._history[-5:])

    def attempt(self, *ids: str) -> None:
        """These are about to be sent."""
        self._write("attempted", ids)

    def confirm(self, *ids: str) -> None:
        """The broker has confirmed these."""
        self._write("confirmed", ids)

    def _write(self, name: str, ids: Iterable[str]) -> None:
        descriptor = self._files[name]
        append(descriptor, "".join(f"{i}\n" for i in ids))
        os.fsync(descriptor)

    def _ids(self, name: str) -> list[str]:
        return (self.folder / name).read_text().split()

    @property
    def attempted(self) -> set[str]:
        return set(self._ids("attempted"))

    @property
    def confirmed(self) -> set[str]:
        return set(self._ids("confirmed"))

    def effects(self) -> list[Effect]:
        """All effects so far, in the order in which they were written."""
        # Who reads while somebody writes may see half of the last line.
        whole = self.effects_file.read_text().rpartition("\n")[0]
        return [Effect(**json.loads(line)) for line in whole.splitlines()]

    def done(self) -> set[str]:
        """The ids that have an effect."""
        return {effect.id for effect in self.effects()}

    def verdict(self, dead: Iterable[str] = ()) -> Verdict:
        """Compare what was promised with what became of it.

        Args:
            dead: the ids that were found among the dead letters.
        """
        attempted, confirmed, put_aside = self.attempted, self.confirmed, set(dead)
        times = Counter(effect.id for effect in self.effects())
        return Verdict(
            attempted=len(attempted),
            confirmed=len(confirmed),
            effects=sum(times.values()),
            dead=len(put_aside),
            lost=tuple(sorted(confirmed - set(times) - put_aside)),
            phantom=tuple(sorted(set(times) - attempted)),
            duplicates={job: count - 1 for job, count in times.items() if count > 1},
        )

    def check(self, *, duplicates: int, dead: Iterable[str] = ()) -> Verdict:
        """Compare, and fail with the seed and the history when the promise was broken.

        Args:
            duplicates: how many effects may be one too many.
            dead: the ids that were found among the dead letters.

        Raises:
            LedgerBroken: lost, phantom, or too many duplicates.
        """
        verdict = self.verdict(dead)
        self.checked = verdict, duplicates
        (self.folder / "report").write_text(self.report(verdict, duplicates))
        if verdict.lost or verdict.phantom or verdict.repeated > duplicates:
            raise LedgerBroken(self.report(verdict, duplicates))
        return verdict

    def counted(self, jobs: int) -> None:
        """For messages without ids: the test itself has found each where it had to be, once."""
        self.checked = Verdict(jobs, jobs, len(self.effects()), 0, (), (), {}), 0

    def report(self, verdict: Verdict, bound: int) -> str:
        """The verdict, with all that is needed to look for the reason."""
        lines = [f"{verdict}; at most {bound} duplicates allowed; seed {self.seed}"]
        lines += [f"lost: {i}" for i in verdict.lost[:SHOWN]]
        lines += [f"phantom: {i}" for i in verdict.phantom[:SHOWN]]
        suspects = list(verdict.duplicates)[:SHOWN]
        lines += [f"duplicated: {e}" for e in self.effects() if e.id in suspects]
        lines += [f"{at - self._began:8.3f} s {event}" for at, event in self._history]
        return "\n".join(lines)


def record(path: Path, effect: Effect) -> None:
    """Append an effect, from whatever process the job runs in."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        append(descriptor, json.dumps(asdict(effect)) + "\n")
    finally:
        os.close(descriptor)


def append(descriptor: int, text: str) -> None:
    """Append in one call: lines of several processes never mix."""
    data = text.encode()
    if os.write(descriptor, data) != len(data):
        raise OSError("a line was written by half")
