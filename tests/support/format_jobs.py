"""Jobs of other formats than JSON, for commands."""

from typing import Any

from amqpjobs import App, Bytes, MsgPack, Retry, Text

app = App("formats", retry=Retry(attempts=1))


@app.job(queue="formats", body=MsgPack)
async def packed(data: bytes, n: int = 1) -> dict[str, Any]:
    """With what it was given."""
    return {"size": len(data), "n": n}


@app.job(queue="formats", body=Text)
async def text(line: str) -> str:
    """The same line."""
    return line


@app.job(queue="formats", body=Bytes)
async def raw(data: bytes) -> int:
    """How many they are."""
    return len(data)
