"""Modules and functions stay small enough to be read at once: one reason to change for each."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "amqpjobs"
MODULE_LINES = 400
FUNCTION_LINES = 40


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def functions(module: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of the body, without the docstring and the signature."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    if not body:
        return 0
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_the_package_is_where_it_is_looked_for() -> None:
    """The two tests below would pass on an empty folder."""
    assert len(modules()) > 1


def test_no_module_is_longer_than_400_lines() -> None:
    """A module that grows beyond it has a second reason to change: split it there."""
    lengths = {str(path): len(path.read_text().splitlines()) for path in modules()}
    assert not {path: length for path, length in lengths.items() if length > MODULE_LINES}


def test_no_function_is_longer_than_40_lines() -> None:
    """Body lines, without the docstring."""
    assert not [
        f"{path}:{function.lineno} {function.name}: {body_lines(function)} lines"
        for path in modules()
        for function in functions(path)
        if body_lines(function) > FUNCTION_LINES
    ]
