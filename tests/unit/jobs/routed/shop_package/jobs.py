from amqpjobs import Router

router = Router()


@router.job(queue="root")
async def root() -> None: ...
