"""Jobs of a router that run in processes of their own; two apps include it."""

import os

from amqpjobs import Context, Router

router = Router(prefix="cpu")


@router.job(queue="cpu", cpu=True)
def where(ctx: Context) -> list[object]:
    return [os.getpid(), ctx.job]
