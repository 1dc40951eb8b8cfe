"""The rooms of the package: what stands at its root, and what imports and names what."""

import ast
import re
from pathlib import Path
from typing import get_args

import grimp

from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.outcome import Answered, Outcome, Rejected

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "amqpjobs"

ENTRIES = {
    "__init__", "__main__", "app", "broker", "broker_url", "cli", "client", "contrib", "demo",
    "errors", "guide", "jobs", "py.typed", "settings", "state", "telemetry", "testing", "web",
    "worker",
}  # fmt: skip
"""A new one is added here and in the import contract, on purpose."""

ABOVE_APP = ("amqpjobs.__main__", "amqpjobs.cli", "amqpjobs.demo", "amqpjobs.web")
"""The rooms that may name `App`."""


def modules() -> dict[str, ast.Module]:
    """By dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text())
    return found


MODULES = modules()


def knots() -> list[set[str]]:
    """Groups of modules that import each other in a circle, imports for type checkers included."""
    graph = grimp.build_graph("amqpjobs", cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    reached = {name: reachable(imports, name) for name in imports}
    groups = {
        frozenset(other for other in there if name in reached[other])
        for name, there in reached.items()
    }
    return [set(group) for group in groups if len(group) > 1]


def reachable(imports: dict[str, set[str]], start: str) -> set[str]:
    """What it imports, directly or not."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = imports[waiting.pop()] - found
        found |= new
        waiting.extend(new)
    return found


def test_the_root_has_19_entries() -> None:
    """The names are those of the rooms."""
    there = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert there == ENTRIES
    assert len(ENTRIES) <= 19


def test_there_is_no_import_circle() -> None:
    """But in the model of the embedded broker, where queue, channel and virtual host are one."""
    model = "amqpjobs.broker.embedded.model."
    others = [knot for knot in knots() if not all(name.startswith(model) for name in knot)]
    assert not [sorted(knot) for knot in others]


def test_only_the_rooms_above_name_the_app() -> None:
    """Others are given a `Client`, a `Runtime` or a protocol."""
    naming = [
        name
        for name, tree in MODULES.items()
        if name not in ("amqpjobs", "amqpjobs.app")
        and not name.startswith(ABOVE_APP)
        and any(
            (isinstance(node, ast.Name) and node.id == "App")
            or (isinstance(node, ast.ImportFrom) and any(a.name == "App" for a in node.names))
            for node in ast.walk(tree)
        )
    ]
    assert not naming


def test_nothing_touches_the_dict_of_an_app() -> None:
    """A test puts an app elsewhere by `App.placed`."""
    touching = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in (PACKAGE, ROOT / "tests")
        for path in sorted(folder.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"\bapp\.__dict__|vars\(app\)", line) and path != Path(__file__)
    ]
    assert not touching


def test_every_outcome_has_a_clause_in_the_settlement() -> None:
    """By its own class: none falls through."""
    clauses = {
        pattern.cls.id
        for node in ast.walk(MODULES["amqpjobs.worker.settlement"])
        for pattern in ast.walk(node)
        if isinstance(pattern, ast.MatchClass) and isinstance(pattern.cls, ast.Name)
    }
    assert {outcome.__name__ for outcome in get_args(Outcome)} <= clauses


def test_one_ending_has_one_word() -> None:
    """That of its state is the one in the log line; of failures it is the reason, which their
    events carry, and of a run that is tried again the state goes on."""
    goes_on = {"retried": "retrying"}
    for outcome in get_args(Outcome):
        if isinstance(word := outcome.word, str) and outcome.state is not None:
            assert outcome.state == goes_on.get(word, word)
    failure = Failure("rejected", "no")
    for outcome in (Rejected, Answered):
        ending = outcome(failure)
        assert (ending.state, ending.word) == ("failed", "rejected")
        assert ending.event(0.0)["reason"] == ending.word


def test_every_outcome_has_a_row_in_the_guide() -> None:
    """In the table of the page about the life of a message, by the name of its class."""
    page = (PACKAGE / "guide/life-of-a-message.md").read_text()
    table = page.partition("## Settle")[2].partition("\n## ")[0]
    rows = [
        row.partition("`")[2].partition("`")[0] for row in table.splitlines() if row[:3] == "| `"
    ]
    assert sorted(rows) == sorted(outcome.__name__ for outcome in get_args(Outcome))
