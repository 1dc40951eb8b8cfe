"""Jobs with middleware that run in processes of their own."""

import time

from amqpjobs import App, Context, Retry

changes: dict[str, object] = {}


async def double(call_next, context):
    context.arguments["times"] = context.arguments["times"] * 2 + 1
    context.arguments.update(changes)
    return await call_next(context)


async def read(call_next, context):
    assert isinstance(context.arguments["n"], int)
    assert context.arguments == {"n": 4}
    return await call_next(context)


app = App("cpu", retry=Retry(attempts=1))


@app.job(queue="cpu", cpu=True, middleware=[double])
def doubled(times: int, words: str) -> str:
    return words * times


@app.job(queue="cpu", cpu=True, middleware=[read])
def halved(n: int) -> int:
    return n // 2


@app.job(queue="cpu", cpu=True)
def hopeful(ctx: Context) -> bool:
    return ctx.will_retry


@app.job(queue="threads", cancellable=True)
def sleeping() -> None:
    time.sleep(60)
