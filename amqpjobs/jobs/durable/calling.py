"""What a durable job may call: a function, another job, or a call of one with its arguments.

Changes when it may call something else.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

from amqpjobs.jobs.message.message import Message

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class Callee(Protocol[P, R_co]):
    """A job, as far as another job calls it: `Job` is one."""

    @property
    def name(self) -> str:
        """Of the job."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """A plain call."""
        ...

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message[R_co]:
        """A call of it, as a value."""
        ...


async def called(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Call the function of a step: a plain ``def`` in a thread."""
    if inspect.iscoroutinefunction(function):
        return await function(*args, **kwargs)
    # Here, so that `import amqpjobs` does not import it.
    from anyio import to_thread

    call = partial(function, *args, **kwargs)
    result = await to_thread.run_sync(call, abandon_on_cancel=False)
    return await result if inspect.isawaitable(result) else result
