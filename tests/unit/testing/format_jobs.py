"""Jobs with formats that run in a process of their own, which has to import them."""

import os

from amqpjobs import App, CloudEvent, CloudEventOf, MsgPack

app = App("formats")


@app.job(queue="processes", cpu=True, body=MsgPack)
def packed(data: dict[str, bytes]) -> tuple[int, int]:
    """What a process reads of MessagePack."""
    return os.getpid(), len(data["raw"])


@app.job(queue="processes", cpu=True, body=CloudEvent(mode="binary"))
def event(event: CloudEventOf[bytes]) -> tuple[int, str, bytes]:
    """What a process reads of an event whose attributes are headers."""
    return os.getpid(), event.type, event.data
