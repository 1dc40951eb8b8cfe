"""Maps: a job for each of many items. Changes when a map is fed, or ends, in another way."""

from collections.abc import Mapping
from typing import Any

from amqpjobs.errors import ConfigurationError
from amqpjobs.state.durable.run import DurableRun


async def run_map(
    run: DurableRun, name: str, job: Any, items: Any, options: Mapping[str, Any]
) -> Any:
    """See `Steps.map`."""
    raise ConfigurationError("ctx.map is being built")
