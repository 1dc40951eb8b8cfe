"""Troubleshooting quotes messages: each of them is one of the code, and no warning is left out."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "amqpjobs"
PAGE = PACKAGE / "guide/troubleshooting.md"

ELSEWHERE = ("embedded", "demo", "starter", "guide")
"""Folders whose lines are not about jobs."""

LOGGERS = ("log", "_log", "logger", "_logger")
SERIOUS = ("warning", "error", "exception", "critical")
LEVELS = (*SERIOUS, "info", "log")
VARIES = "\0"
"""Stands in a message for what is put in at run time."""


def rows(heading: str, column: int = 0) -> list[str]:
    """The code spans of a column of the tables below a heading."""
    section = PAGE.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert section, f"no section {heading!r}"
    found = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) > column and cells[column].startswith("`"):
            found.extend(cells[column].strip("`").split("`, `"))
    return found


def template(node: ast.expr, names: dict[str, str]) -> str | None:
    """The text of an expression, with `VARIES` for what is known at run time only."""
    match node:
        case ast.Constant(value=str(text)):
            return re.sub(r"%[srd]", VARIES, text)
        case ast.JoinedStr(values=parts):
            return "".join(template(part, names) or VARIES for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return (template(left, names) or VARIES) + (template(right, names) or VARIES)
        case ast.Name(id=name):
            return names.get(name)
        case _:
            return None


@cache
def trees() -> tuple[tuple[Path, ast.Module], ...]:
    """Of every module that speaks of jobs."""
    return tuple(
        (path, ast.parse(path.read_text()))
        for path in sorted(PACKAGE.rglob("*.py"))
        if not set(path.relative_to(PACKAGE).parts) & set(ELSEWHERE)
    )


def constants(tree: ast.Module) -> dict[str, str]:
    """The texts that have a name in a module."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


@cache
def texts() -> tuple[str, ...]:
    """Every text of the code."""
    found = []
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
                text = template(node, {})
                if text and " " in text:
                    found.append(text)
    return tuple(found)


def log_lines() -> Iterator[tuple[str, str, str]]:
    """Where, how loud, and the text of each line that is logged."""
    for path, tree in trees():
        names = constants(tree)
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            level = node.func.attr
            if ast.unparse(node.func.value) not in LOGGERS or level not in LEVELS:
                continue
            text = template(node.args[level == "log"], names)
            if text is not None:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", level, text


def pattern(quoted: str) -> re.Pattern[str]:
    """What a quoted message matches: ``...`` is anything."""
    return re.compile(".*".join(map(re.escape, quoted.split("..."))), re.DOTALL)


MESSAGES = (
    "Connecting", "Queues and permissions", "Starting the command line", "Declaring jobs",
    "Schedules", "Transactions", "Dead-letter commands",
)  # fmt: skip


@pytest.mark.parametrize("heading", MESSAGES)
def test_each_message_is_one_of_the_code(heading: str) -> None:
    """Word by word."""
    quoted = rows(heading)
    assert quoted
    assert not unknown(quoted)


def test_each_error_of_enqueuing_is_one_of_the_code() -> None:
    """Its class, and its words."""
    from amqpjobs import errors

    heading = "Enqueuing and requests"
    assert all(hasattr(errors, name) for name in rows(heading))
    assert not unknown(rows(heading, 1))


def unknown(quoted: list[str]) -> list[str]:
    """Those that the code does not say."""
    return [each for each in quoted if not any(pattern(each).search(text) for text in texts())]


def test_each_ending_of_a_job_is_there() -> None:
    """The word of every outcome, and of every reason for a dead letter."""
    from amqpjobs.jobs import outcome

    lines = rows("How a job ended")
    quoted = {line.removeprefix("job ") for line in lines if line.startswith("job ")}
    assert not unknown([line for line in lines if not line.startswith("job ")])
    words = {vars(each).get("word") for each in get_args(outcome.Outcome)}
    assert {word for word in words if isinstance(word, str)} <= quoted
    assert {"failed", "rejected", "invalid", "undecodable", "poison"} <= quoted


LINES = (
    "Log lines of a worker", "Log lines of the housekeeping",
    "Log lines of the web tier, the recorder and telemetry",
)  # fmt: skip


def test_each_log_line_is_one_of_the_code() -> None:
    """Word by word, and whole."""
    logged = {text for _, _, text in log_lines()}
    missing = [
        quoted
        for heading in LINES
        for quoted in rows(heading)
        if not any(pattern(quoted).fullmatch(text) for text in logged)
    ]
    assert not missing


def test_no_warning_is_left_out() -> None:
    """Whoever adds a line that calls for attention says here what to do about it."""
    quoted = [pattern(line) for heading in LINES for line in rows(heading)]
    left_out = [
        f"{place}: {text}"
        for place, level, text in log_lines()
        if level in SERIOUS and not any(each.fullmatch(text) for each in quoted)
    ]
    assert not left_out, "add a row to amqpjobs/guide/troubleshooting.md"
