"""Apps that are deployed in tests."""

from amqpjobs import App, Queue
from amqpjobs.cli.deploy import Plan, Timed, plan_of
from amqpjobs.settings import load_settings

IMAGE = "registry.example:5000/shop:1.0"


def shop_app(**settings: object) -> App:
    """Two queues, one of them with priorities, a rate, and a name that Kubernetes does not take."""
    app = App("shop", settings=load_settings(**settings))
    photos = Queue("Photos_HIGH.x", priorities={"high": 6, "normal": 3, "low": 1}, rate="10/s")

    @app.job(queue="receipts", timeout=30)
    async def send_receipt(order: int) -> None: ...

    @app.job(queue="receipts", timeout=900)
    async def nightly(days: int = 30, dry: bool = False) -> None: ...

    @app.job(queue=photos)
    async def photo(order: int) -> None: ...

    return app


def shop_plan(app: App | None = None, **options: object) -> Plan:
    """With a job of each kind that starts by the clock."""
    timed = [
        Timed("enqueue", "nightly", "15 3 * * *"),
        Timed("run", "nightly", "0  4 * * 0", '{"days": 365}'),
    ]
    given = {"timed": timed, **options}
    return plan_of(app or shop_app(), "shop:app", IMAGE, **given)  # type: ignore[arg-type]
