"""Sends signals to durable jobs. Changes when a signal carries something else."""

from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticSerializationError

from amqpjobs.errors import ConfigurationError, InvalidArguments
from amqpjobs.jobs.message.family import LONGEST_NAME
from amqpjobs.jobs.message.ids import check_job_id
from amqpjobs.jobs.roundtrip.encoded_bytes import adapter_of
from amqpjobs.state.durable.typed import LARGEST
from amqpjobs.state.durable.waits import send_signal

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory


def body_of(name: str, value: Any) -> bytes:
    """The value of a signal, as JSON.

    Raises:
        InvalidArguments: it cannot become JSON, or is too large.
    """
    try:
        data = adapter_of(Any).dump_json(value, by_alias=True, warnings="error")
    except (PydanticSerializationError, RecursionError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        words = f"the signal {name!r} has a value that cannot become JSON: {first}"
        raise InvalidArguments(words, job="") from None
    check_size(name, data)
    return data


def check_size(name: str, body: bytes) -> None:
    """Check the size of a value, as JSON.

    Raises:
        InvalidArguments: it is too large.
    """
    if len(body) > LARGEST:
        raise InvalidArguments(
            f"the signal {name!r} has {len(body)} bytes of JSON, the limit is {LARGEST}: store the "
            "value elsewhere and send its location",
            job="",
        )


async def send(memory: "Memory", job_id: str, name: str, body: bytes) -> bool:
    """Store a signal. If its job waits for it, the job is sent again. See `App.signal`."""
    check_job_id(job_id)
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or "\0" in name:
        raise ConfigurationError(
            f"the name of a signal must be a text of 1 to {LONGEST_NAME} characters, not {name!r}"
        )
    store = await memory.store()
    taken, woken = await store.run(send_signal, memory.app, job_id, name, body, store.now)
    if woken:
        memory.nudge()
    return taken
