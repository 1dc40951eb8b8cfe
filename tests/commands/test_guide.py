"""``amqpjobs guide``: pages are listed, shown and found, on a terminal and for programs."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from amqpjobs.cli.guide import entries, nearest_page
from tests.support.pages import GUIDE
from tests.support.programs import PROGRAM, ROOT, command, environment
from tests.support.terminal import Terminal

ENV = environment("amqp://nowhere", ROOT)


def guide(*arguments: str, status: int = 0) -> str:
    """Its output, or its message where it fails."""
    done = command("guide", *arguments, env=ENV)
    assert done.returncode == status, str(done)
    return done.stderr if status else done.stdout


def test_pages_are_listed_by_section() -> None:
    """Each with its sentence; as JSON with its title, too."""
    text = guide()
    assert text.index("\nHow it works\n") < text.index("\n  poison ") < text.index("\nProject\n")
    listed = json.loads(guide("--json"))
    assert {entry["page"] for entry in listed} == {p.stem for p in GUIDE.glob("*.md")} - {"index"}
    assert [entry for entry in listed if entry["page"] == "poison"] == [
        {
            "section": "How it works",
            "page": "poison",
            "title": "Jobs that crash the worker",
            "sentence": "How a job that kills its process is found and set aside.",
        }
    ]


def test_a_page_is_plain_markdown_in_a_pipe() -> None:
    """As its file; without the comments that only its test reads."""
    assert guide("poison").startswith("# Jobs that crash the worker\n\n")
    assert guide("POISON.md") == guide("poison")
    assert "<!--" not in guide("poison")
    assert json.loads(guide("poison", "--json"))["text"] == guide("poison")


def test_a_page_is_formatted_on_a_terminal(tmp_path: Path) -> None:
    """By the pager; a link is the name that the command takes."""
    terminal = Terminal([*PROGRAM, "guide", "poison"], ENV | {"PAGER": "cat"}, tmp_path)
    shown = terminal.wait_for("dead-letters")
    assert terminal.program.wait(20) == 0
    assert "Jobs that crash the worker" in shown
    assert "# Jobs that crash the worker" not in shown
    assert "](" not in shown


def test_lines_are_found() -> None:
    """In whatever case; of all pages or of one, with the number of the line."""
    found = json.loads(guide("--search", "QUARANTINE", "--json"))
    assert "poison" in {match["page"] for match in found}
    lines = guide("poison").splitlines()
    for match in json.loads(guide("poison", "--search", "quarantine", "--json")):
        assert match["page"] == "poison"
        assert match["text"] == lines[match["line"] - 1].strip()
    assert "\npoison: Jobs that crash the worker\n" in guide("--search", "quarantine")
    assert guide("--search", "zyzzyva", status=1) == "'zyzzyva' is on no page of the guide\n"
    assert json.loads(guide("--search", "zyzzyva", "--json")) == []


def test_an_unknown_page_names_the_nearest() -> None:
    """As a mistake in usage."""
    assert "no page 'poisn': did you mean 'poison'?" in guide("poisn", status=2)
    assert "did you mean" not in guide("zyzzyva", status=2)


@pytest.mark.parametrize(
    ("wanted", "page"),
    [("crash", "poison"), ("guarantee", "guarantees"), ("contribute", "contributing"), ("", None)],
)
def test_the_nearest_page_is_what_was_meant(wanted: str, page: str | None) -> None:
    """A misspelt name, or a word of the title or of the sentence."""
    assert nearest_page(wanted, list(entries())) == page


def test_the_wheel_has_the_pages(tmp_path: Path) -> None:
    """All of them, where the command reads them."""
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("amqpjobs/guide/")}
    assert packed == {f"amqpjobs/guide/{path.name}" for path in GUIDE.iterdir()}
