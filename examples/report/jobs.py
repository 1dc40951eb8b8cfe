"""The jobs of the report: one for each text, and the durable one that waits for all of them."""

import re
from collections import Counter
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel

from amqpjobs import App, Context, Reject

app = App("report")

GUIDE = Path(str(files("amqpjobs"))) / "guide"
"""Texts that are there wherever amqpjobs is installed."""

WORD = re.compile(r"[^\W\d_]{2,}")
LONG = 8
"""Letters of the words that are named."""


class Counts(BaseModel):
    """What was counted, in one text or in several.

    Attributes:
        texts: how many.
        words: in all of them.
        longest: the text with the most words, and how many those are.
        often: words of `LONG` letters or more, and how often they come.
    """

    texts: int = 0
    words: int = 0
    longest: tuple[str, int] = ("", 0)
    often: dict[str, int] = {}


@app.job(queue="texts", timeout=60)
def count(path: Path) -> Counts:
    """Count the words of a text. A plain ``def``: it runs in a thread."""
    words = [word.lower() for word in WORD.findall(path.read_text())]
    often = Counter(word for word in words if len(word) >= LONG)
    return Counts(texts=1, words=len(words), longest=(path.stem, len(words)), often=often)


@app.job(queue="texts", timeout=60)
def merge(counts: list[Counts]) -> Counts:
    """Make one of several."""
    often = sum((Counter(each.often) for each in counts), Counter[str]())
    return Counts(
        texts=sum(each.texts for each in counts),
        words=sum(each.words for each in counts),
        longest=max((each.longest for each in counts), key=lambda each: each[1], default=("", 0)),
        often=often,
    )


def texts_in(folder: Path) -> list[Path]:
    """What is to be counted. A step: what is in the folder later changes nothing."""
    texts = sorted(folder.glob("*.md"))
    if not texts:
        raise Reject(f"there is no .md file in {folder}")
    return texts


@app.job(queue="reports", durable=True)
async def report(ctx: Context, folder: Path = GUIDE) -> Counts:
    """Count all texts of a folder, on all workers."""
    texts = await ctx.step("texts", texts_in, folder)
    return await ctx.map("counts", count, texts, reduce=merge)
