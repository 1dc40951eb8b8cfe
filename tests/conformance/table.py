"""The table of `README.md`: a row for each test, its docstring; a column for each broker.

``python -m tests.conformance.table`` runs the suite and writes the table from what came of it.
"""

import ast
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent
README: Final = FOLDER / "README.md"
COLUMNS: Final = {
    "rabbitmq-3.10": "RabbitMQ 3.10",
    "rabbitmq-4.3": "RabbitMQ 4.3",
    "embedded-3.10": "embedded 3.10",
    "embedded-4.3": "embedded 4.3",
}
START, END = "<!-- table -->\n", "<!-- end of the table -->"
RUNS_ON_PEERS: Final = {"peer", "channel", "dead", "kind"}


@dataclass(frozen=True, slots=True)
class Row:
    """One behaviour."""

    module: str
    name: str
    text: str


def subjects() -> list[tuple[str, list[Row]]]:
    """By test module: what it is about, and its rows in order."""
    found = []
    for path in sorted(set(FOLDER.glob("test_*.py")) - {FOLDER / "test_machine.py"}):
        tree = ast.parse(path.read_text())
        rows = list(_rows(path.stem, tree))
        if rows:
            found.append(((ast.get_docstring(tree) or "").splitlines()[0], rows))
    return found


def _rows(module: str, tree: ast.Module) -> Iterator[Row]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            taken = {argument.arg for argument in node.args.args}
            if taken & RUNS_ON_PEERS:
                yield Row(module, node.name, (ast.get_docstring(node) or "").splitlines()[0])


def rendered(results: list[dict[str, Any]]) -> str:
    """The table, in Markdown."""
    lines = []
    for subject, rows in subjects():
        lines += [f"### {subject.rstrip('.')}", ""]
        lines.append(f"| behaviour | {' | '.join(COLUMNS.values())} |")
        lines.append("|---|" + "---|" * len(COLUMNS))
        for row in rows:
            cells = [_cell(row, column, results) for column in COLUMNS]
            lines.append(f"| {row.text.replace('|', chr(92) + '|')} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(row: Row, column: str, results: list[dict[str, Any]]) -> str:
    runs = [
        run
        for run in results
        if (run["module"], run["row"], run["peer"]) == (row.module, row.name, column)
    ]
    if not runs:
        return "not run"
    if not all(run["passed"] for run in runs):
        return "**no**"
    if runs[0]["refused"] and column.startswith("embedded"):
        return f"refused: {runs[0]['refused']}"
    return "yes"


def compared(results: list[dict[str, Any]]) -> str:
    """What the state machine did, in a sentence."""
    counts = {run["peer"]: run["compared"] for run in results if "compared" in run}
    said = " and ".join(
        f"{count:,} commands with {COLUMNS[peer]}" for peer, count in sorted(counts.items())
    )
    return f"The state machine of the last run compared {said}: no difference.\n"


def written(text: str) -> list[str]:
    """The rows in a README's table, each as its cells."""
    table = text.partition(START)[2].partition(END)[0]
    lines = (line for line in table.splitlines() if line.startswith("| "))
    return [line for line in lines if not line.startswith("| behaviour |")]


def main() -> int:
    """Run the suite, and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        environment = {**os.environ, "AMQPJOBS_CONFORMANCE_REPORT": str(report)}
        command = [sys.executable, "-m", "pytest", str(FOLDER), "-q", *sys.argv[1:]]
        command.append(f"--ignore={FOLDER / 'test_table.py'}")  # it looks at what is made here
        command.append(f"--ignore={FOLDER / 'suites'}")  # no rows
        status = subprocess.run(command, env=environment, check=False).returncode
        results = json.loads(report.read_text())
    before, _, rest = README.read_text().partition(START)
    _, end, after = rest.partition(END)
    table = f"{compared(results)}\n{rendered(results)}"
    README.write_text(f"{before}{START}{table}{end}{after}")
    return status


if __name__ == "__main__":
    sys.exit(main())
