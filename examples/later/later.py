"""One class whose method is run now and later. Only one word differs.

``python -m examples.later.later`` runs it here, and puts it into a queue. Any number of
``amqpjobs consume albums --app examples.later.later:app`` work on that queue.
"""

import asyncio
import os
from datetime import date
from uuid import UUID, uuid4

from pydantic import BaseModel

from amqpjobs import App

app = App("albums")


class PublishAlbum(BaseModel):
    """Publishes an album. Its fields are all that travels: a worker rebuilds it from them."""

    album_id: UUID
    title: str
    on: date

    @app.job(queue="albums")
    async def call(self) -> None:
        """Publish it; here, say who does."""
        print(f"process {os.getpid()} publishes {self.title}, {self.on:%d %B %Y}", flush=True)


async def main() -> None:
    """Publish an album now, in this process, and later, in a worker."""
    album = PublishAlbum(album_id=uuid4(), title="Picos de Europa", on=date(2026, 5, 1))
    await album.call()
    async with app.lifespan():
        job = await album.call.later()
    print(f"{job.job} {job.id} waits in queue {job.queue}")


if __name__ == "__main__":
    asyncio.run(main())
