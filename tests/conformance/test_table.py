"""The table in README.md has the rows that there are, and no broker fails one of them."""

import re

from tests.conformance.table import README, rendered, subjects, written


def test_rows_are_up_to_date() -> None:
    """After a new row: `python -m tests.conformance.table`."""
    now = [line.split(" | ")[0] for line in written(f"<!-- table -->\n{rendered([])}")]
    assert now == [line.split(" | ")[0] for line in written(README.read_text())]
    assert len(now) > 100


def test_every_row_was_run_and_is_so() -> None:
    """No cell says `no`, or that it was not run."""
    cells = [line.strip("| ").rsplit(" | ", 4)[1:] for line in written(README.read_text())]
    assert {cell for row in cells for cell in row if not re.match(r"refused: \d+$", cell)} == {
        "yes"
    }


def test_rows_are_told_apart() -> None:
    """No two rows say the same."""
    texts = [row.text for _, rows in subjects() for row in rows]
    assert sorted(texts) == sorted(set(texts))
