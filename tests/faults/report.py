"""What runs of the fault tests came to: one line of JSON for each test, and a table over them.

With ``AMQPJOBS_FAULTS_REPORT=FILE`` every test with a ledger appends its line to that file.
``python -m tests.faults.report FILE...`` prints the table of `README.md` from such files.
"""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

REPORT: Final = "AMQPJOBS_FAULTS_REPORT"
"""The variable with the file to append to."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One run of one test.

    Attributes:
        row: of the fault matrix: "F1".
        form: "short" or "full".
        test: its name, without parameters.
        version: of RabbitMQ.
        passed: whether it passed.
        seed: of its random choices.
        seconds: that it took.
        faults: how many were made.
        jobs: how many were confirmed.
        lost: how many of these are neither done nor dead-lettered.
        duplicated: how many effects were one too many.
        bound: how many may be.
        notes: what else was measured: ``p99 lateness 0.4 s``.
    """

    row: str
    form: str
    test: str
    version: str
    passed: bool
    seed: int
    seconds: float
    faults: int
    jobs: int
    lost: int
    duplicated: int
    bound: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        line = (
            f"{self.row} {self.form}, RabbitMQ {self.version}: {self.faults} faults, "
            f"{self.jobs} jobs, {self.lost} lost, {self.duplicated} duplicated of at most "
            f"{self.bound}, {self.seconds} s, seed {self.seed}"
        )
        return "; ".join((line, *self.notes))


def append(entry: Entry) -> None:
    """Append it to the file, if one is asked for."""
    file = os.environ.get(REPORT)
    if file:
        with Path(file).open("a") as stream:
            stream.write(json.dumps(asdict(entry)) + "\n")


def read(files: Iterable[Path]) -> list[Entry]:
    """The entries of these files."""
    return [
        Entry(**{**json.loads(line), "notes": tuple(json.loads(line)["notes"])})
        for file in files
        for line in file.read_text().splitlines()
    ]


def table(entries: Iterable[Entry]) -> list[str]:
    """One line of Markdown for each row and form, over all its runs."""
    groups: dict[tuple[int, str, str], list[Entry]] = {}
    for entry in entries:
        key = (int(entry.row[1:]), entry.form, entry.row)
        groups.setdefault(key, []).append(entry)
    lines = [
        "| row | form | runs | RabbitMQ | faults | jobs | lost | duplicated, of allowed | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    order = sorted(groups, key=lambda k: (k[0], k[1] != "short"))
    return lines + [_line(key[2], key[1], groups[key]) for key in order]


def _line(row: str, form: str, runs: Sequence[Entry]) -> str:
    failed = sum(not run.passed for run in runs)
    cells = [
        row,
        form,
        f"{len(runs)}, {failed} failed" if failed else str(len(runs)),
        ", ".join(sorted({run.version for run in runs})),
        str(sum(run.faults for run in runs)),
        f"{sum(run.jobs for run in runs):,}",
        str(sum(run.lost for run in runs)),
        f"{sum(run.duplicated for run in runs)} of {sum(run.bound for run in runs):,}",
        _few([run.seed for run in runs]),
    ]
    return f"| {' | '.join(cells)} |"


def _few(seeds: Sequence[int]) -> str:
    shown = " ".join(str(seed) for seed in seeds[:4])
    return f"{shown} ..." if len(seeds) > 4 else shown


if __name__ == "__main__":
    sys.stdout.write("\n".join(table(read(map(Path, sys.argv[1:])))) + "\n")
