from amqpjobs import Router
from shop_package.jobs import router as other

router = Router(prefix="billing")
assert other is not router


@router.job(queue="payments")
async def charge(order: int) -> None: ...
