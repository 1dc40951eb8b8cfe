"""An app with schedules, for the commands."""

from amqpjobs import App, Context, Cron, Every

app = App("scheduled")


@app.job(queue="reports", schedule=Cron("0 7 * * mon-fri", tz="Europe/Berlin"))
async def report(ctx: Context) -> None:
    """Each weekday."""


@app.job(queue="polls", schedule=Every(days=1))
async def poll() -> None:
    """Each day."""
