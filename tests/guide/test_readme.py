"""What the README says works: its blocks are run as those of the guide's pages."""

from pathlib import Path

import pytest

from tests.support.pages import ROOT, Page, check

README = Page(ROOT / "README.md")


@pytest.mark.programs
@pytest.mark.timeout(180)
def test_what_it_shows_works(tmp_path: Path) -> None:
    """In an empty folder, with a broker: a worker, and a program that enqueues and requests."""
    folder = tmp_path / "page"
    folder.mkdir()
    check(README, folder)


def test_its_links_lead_somewhere() -> None:
    """To files of this repository."""
    assert README.links
    assert not [target for target in README.links if not (ROOT / target.partition("#")[0]).exists()]


def test_it_has_150_lines_at_most() -> None:
    """What needs more is a page of the guide."""
    assert len(README.path.read_text().splitlines()) <= 150
