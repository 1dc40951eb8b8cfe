"""The apps; they know the router, and it knows none of them."""

from contextlib import asynccontextmanager

from routed_cpu import router

from amqpjobs import App

started: list[str] = []


@asynccontextmanager
async def opened(app: App):
    started.append(app.name)
    yield app.name


one, two = App("one", lifespan=opened), App("two", lifespan=opened)
one.include(router)
two.include(router)


@router.job(queue="cpu", cpu=True)
def opened_here() -> list[str]:
    return started


def later(app: App) -> None:
    app.include(router)
