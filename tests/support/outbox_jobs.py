"""An app with an outbox in the store, for commands in processes of their own."""

from amqpjobs import App, Queue, Retry

app = App("outboxes", retry=Retry(attempts=1))
app.outbox()
work = Queue("work")


@app.job(queue=work)
async def send(n: int) -> None:
    """Nothing of interest."""
