"""A call in a thread of its own, for what blocks and must not wait for others.

`asyncio.to_thread` and `loop.getaddrinfo` use the default executor, which handlers use too: jobs
that fill it would keep a worker from finding its broker. Changes when running such a call does.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_own_thread(call: Callable[[], T], name: str) -> T:
    """Run a call in a thread that is made for it. Cancelled, it is left to its end, and neither
    that nor the end of the process waits for it.

    Args:
        call: what blocks.
        name: of the thread, for people.

    Raises:
        OSError: the machine has no room for a thread.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def conclude(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, problem = None, None
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            problem = error
        try:
            loop.call_soon_threadsafe(conclude, result, problem)
        except RuntimeError:
            return  # the loop was closed meanwhile: nobody waits

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:
        raise OSError(f"no thread could be started: {error}") from error
    return await future
