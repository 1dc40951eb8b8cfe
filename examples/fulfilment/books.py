"""What the bank, the stock and the carrier know, as files: in a real shop these are services.

Each entry has a key, and an entry that is there is not made again: so a request that is sent twice
has its effect once. Real payment services take such a key, too.
"""

import os

from anyio import Path

BOOKS = Path(os.environ.get("FULFILMENT_BOOKS", "books"))


async def enter(book: str, key: str, text: str) -> str:
    """Make an entry, if it is not there.

    Returns:
        Its key.
    """
    folder = BOOKS / book
    await folder.mkdir(parents=True, exist_ok=True)
    try:
        async with await (folder / f"{key}.txt").open("x") as entry:
            await entry.write(text)
    except FileExistsError:
        pass
    return key


async def strike(book: str, key: str) -> None:
    """Take an entry back: another one says so, since books are not erased."""
    await enter(f"{book}-taken-back", key, "")


async def lamps_left() -> int:
    """How many lamps are in stock: ten, less those that are reserved."""
    reserved = {path.name async for path in (BOOKS / "stock").glob("*.txt")}
    free_again = {path.name async for path in (BOOKS / "stock-taken-back").glob("*.txt")}
    return 10 - len(reserved - free_again)
