"""Asks for the report, and prints it: ``python -m examples.report.run [FOLDER]``."""

import asyncio
import sys
from pathlib import Path

from examples.report.jobs import GUIDE, app, report


async def main(folder: Path) -> None:
    """Wait for the report, for up to a minute."""
    async with app.lifespan():
        counts = await report.with_options(timeout=60).request(folder)
    often = sorted(counts.often.items(), key=lambda each: (-each[1], each[0]))
    print(f"{counts.texts} texts, {counts.words} words")
    print("the longest: {} ({})".format(*counts.longest))
    print("often: " + ", ".join(f"{word} ({times})" for word, times in often[:5]))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else GUIDE))
