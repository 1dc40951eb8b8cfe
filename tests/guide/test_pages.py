"""What the guide says works: every block of every page is run; see `tests/support/pages.py`."""

import re
from pathlib import Path

import pytest

from tests.support.pages import ENTRY, GUIDE, INDEX, ROOT, Page, check, listed, pages

PAGES = pages()
by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.mark.programs
@pytest.mark.timeout(180)
@by_name
def test_what_a_page_shows_works(page: Page, tmp_path: Path) -> None:
    """In an empty folder, with a broker."""
    folder = tmp_path / "page"
    folder.mkdir()
    check(page, folder)


@by_name
def test_a_page_begins_with_its_title_and_what_it_is_for(page: Page) -> None:
    """`# Title`, then a sentence. It has one title, and no heading twice: they are anchors."""
    lines = page.prose.splitlines()
    assert lines[0].startswith("# ")
    assert lines[1] == ""
    assert lines[2][:1].isupper() or lines[2].startswith("`")
    assert [line for line in lines if line.startswith("# ")] == lines[:1]
    assert len(set(page.anchors)) == len(page.anchors)


@by_name
def test_its_links_lead_somewhere(page: Page) -> None:
    """To pages of the guide, and to headings that are there."""
    for target in page.links:
        name, _, anchor = target.partition("#")
        stem = name.removesuffix(".md") if name else page.name
        assert name == "" or name == f"{stem}.md", f"{target}: not a page of the guide"
        assert stem == "index" or stem in listed(), f"{target}: no such page"
        path = GUIDE / f"{stem}.md"
        if anchor and path.exists():
            assert anchor in Page(path).anchors, f"{target}: no such heading there"


def test_files_that_are_named_are_there() -> None:
    """In the pages about the code: a file that moves takes its mention along."""
    named = re.compile(r"`([\w/.-]+(?:\.py|\.md|/))`")
    places = (ROOT, GUIDE, ROOT / "amqpjobs", ROOT / "tests/benchmarks")
    for name in ("architecture", "benchmarks", "conformance", "contributing", "faults"):
        if (GUIDE / f"{name}.md").exists():
            for path in named.findall(Page(GUIDE / f"{name}.md").prose):
                assert any((place / path).exists() for place in places), f"{name}: {path}"


def test_the_index_lists_every_page_once() -> None:
    """By section, with a sentence."""
    names = listed()
    assert len(set(names)) == len(names)
    assert {page.name for page in PAGES} == set(names)
    assert [target for target in Page(INDEX).links if target.endswith(".md")] == [
        f"{name}.md" for name in names
    ]
    assert all(sentence.endswith(".") for _, _, sentence in ENTRY.findall(INDEX.read_text()))
