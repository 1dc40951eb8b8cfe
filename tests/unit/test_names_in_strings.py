"""What tests, deployment and examples name in strings is there. A module that moves leaves no name
behind: `monkeypatch.setattr("amqpjobs...")`, programs in strings, crash points, files of deploy."""

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = ("tests", "deploy", "examples", "pyproject.toml")

DOTTED = re.compile(r"(?<![\w./@\\-])(?:amqpjobs|tests)(?:\.[A-Za-z_]\w*)+(?![\w/*@-])")
PATH = re.compile(r"(?<![\w./-])(?:amqpjobs|tests)/[\w/]+\.py\b")
WIRE = re.compile(r"amqpjobs(?:\.\w+)*\.?")

OTHERS = frozenset(
    {
        "amqpjobs.Quue",  # what a test misspells
        "amqpjobs.bench",  # what `amqpjobs bench` declares
        "amqpjobs.d",  # of a folded line
        "amqpjobs.delay",  # of a pattern of queues
        "amqpjobs.env",  # files, from here
        "amqpjobs.heartbeat",
        "amqpjobs.json",
        "amqpjobs.target",
        "amqpjobs.ticker",  # what the queue of a ticker begins with
        "tests/test_jobs.py",  # of the project that `amqpjobs new` makes
    }
)


FOREIGN = ROOT / "tests/conformance/suites"
"""It names the tests of other projects."""


def texts() -> Iterator[tuple[Path, str]]:
    for name in TEXTS:
        place = ROOT / name
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if FOREIGN in path.parents:
                continue
            if path.is_file() and not {"__pycache__", "node_modules"} & set(path.parts):
                try:
                    yield path.relative_to(ROOT), path.read_text()
                except UnicodeDecodeError:
                    continue


def found(pattern: "re.Pattern[str]") -> dict[str, str]:
    """What is named, and one place where it is."""
    return {
        match.group(): f"{path}:{text.count(chr(10), 0, match.start()) + 1}"
        for path, text in texts()
        if path.name != Path(__file__).name
        for match in pattern.finditer(text)
    }


@pytest.fixture(scope="module")
def wire_names() -> tuple[set[str], tuple[str, ...]]:
    """Queues, headers, metrics, loggers: strings of the package that are named as a module is, and
    what such a name begins with."""
    constants = {
        node.value
        for path in sorted((ROOT / "amqpjobs").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if WIRE.fullmatch(node.value)
    }
    return constants, tuple(
        name for name in constants if name.endswith(".") and name.count(".") > 1
    )


def is_imported(name: str) -> bool:
    """Whether it is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def is_a_test_module(name: str) -> bool:
    """Whether there is such a file or folder; what is in it is not looked at."""
    parts = name.split(".")
    places = [ROOT.joinpath(*parts[:length]) for length in (len(parts), len(parts) - 1)]
    return places[0].is_dir() or any(place.with_suffix(".py").is_file() for place in places)


def test_the_names_are_looked_for_where_they_are() -> None:
    """The tests below would pass on no names."""
    assert "amqpjobs.broker.rabbitmq.background.FIRST_PAUSE" in found(DOTTED)
    assert not is_imported("amqpjobs.background.FIRST_PAUSE")
    assert not is_a_test_module("tests.worker.cpu_jobs")


def test_every_dotted_name_is_a_module_or_something_in_one(
    wire_names: tuple[set[str], tuple[str, ...]],
) -> None:
    """Or a name on the wire that the package itself has."""
    known, prefixes = wire_names
    resolve: dict[str, Callable[[str], bool]] = {
        "amqpjobs": lambda name: (
            name in known | OTHERS or name.startswith(prefixes) or is_imported(name)
        ),
        "tests": is_a_test_module,
    }
    assert not {
        name: place
        for name, place in found(DOTTED).items()
        if not resolve[name.partition(".")[0]](name)
    }


def test_every_path_of_a_module_is_there() -> None:
    """As in comments, in programs that are started by their file, in the files of deploy."""
    assert not {
        name: place
        for name, place in found(PATH).items()
        if not (name in OTHERS or (ROOT / name).is_file())
    }
