"""The results of the items of a chunk in one column: a line for each item, empty until it ends.

JSON that pydantic writes has no line breaks. Changes when the line of an item has something else.
"""

from collections.abc import Iterator, Sequence

from amqpjobs.state.durable.values import Failed

OPEN = b""
"""The line of an item that has not ended."""

_RESULT, _ERROR = b"r", b"e"


def done(result: bytes) -> bytes:
    """The line of an item that is done.

    Args:
        result: as JSON.
    """
    if b"\n" in result:
        result = b" ".join(result.split(b"\n"))  # of an encoder of its own: no value has any
    return _RESULT + result


def failed(error: Failed) -> bytes:
    """The line of an item that has failed for good."""
    return _ERROR + error.text().encode()


def result_in(line: bytes) -> bytes | None:
    """The result in a line, as JSON; None if the item is not done."""
    return line[1:] if line.startswith(_RESULT) else None


def error_in(line: bytes) -> Failed | None:
    """Why the item has failed; None if it has not."""
    return Failed.of_text(line[1:].decode()) if line.startswith(_ERROR) else None


def column(lines: Sequence[bytes]) -> bytes:
    """Join the lines into the value of the column."""
    return b"\n".join(lines)


def lines_in(column: bytes | None, count: int) -> list[bytes]:
    """Split the value of the column into lines.

    Args:
        count: of items.
    """
    if column is None:
        return [OPEN] * count
    return bytes(column).split(b"\n")


def merged(known: Sequence[bytes], more: Sequence[bytes]) -> list[bytes]:
    """Merge the results of two runs of a chunk. The first result of an item counts."""
    return [old or new for old, new in zip(known, more, strict=True)]


def open_in(lines: Sequence[bytes]) -> Iterator[int]:
    """The indexes of items that have not ended."""
    return (index for index, line in enumerate(lines) if not line)


def tally(lines: Sequence[bytes]) -> tuple[int, int]:
    """How many items are done, and how many have failed."""
    ok = sum(line.startswith(_RESULT) for line in lines)
    return ok, sum(line.startswith(_ERROR) for line in lines)
