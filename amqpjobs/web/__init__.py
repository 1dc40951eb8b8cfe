"""The web tier: jobs over HTTP. Enqueue, ask, watch, webhooks, health.

The only importer of FastAPI, Starlette, sse-starlette and uvicorn, with `amqpjobs.demo`.
"""

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.hints import install

try:
    import fastapi as _fastapi
    import sse_starlette as _sse_starlette
    import uvicorn as _uvicorn
except ModuleNotFoundError as error:
    raise ConfigurationError(
        f"the web tier needs {error.name!r}, which is not installed: {install('amqpjobs[web]')}"
    ) from error

__all__: list[str] = []

del _fastapi, _sse_starlette, _uvicorn, install
