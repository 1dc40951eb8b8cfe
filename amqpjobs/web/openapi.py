"""The OpenAPI document, with each job described by its own schemas, and a page that shows it.

Changes when the description of a job does.
"""

import copy
import re
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, JSONResponse, Response

from amqpjobs.jobs.definition import Definition
from amqpjobs.web.jobs import arguments_schema, result_schema
from amqpjobs.web.problems import problems
from amqpjobs.web.tier import Tier

PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data: https://fastapi.tiangolo.com; "
    "script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net; frame-ancestors 'none'"
)
"""What the page may load: it is FastAPI's, and its scripts come from there."""

ENQUEUE, REQUEST = "/jobs/{name}", "/jobs/{name}/request"
"""The paths that are described once more for each job."""


class Document:
    """The routes of the document.

    Args:
        api: whose routes it describes.
        tier: whose jobs.
    """

    def __init__(self, api: FastAPI, tier: Tier) -> None:
        self._api = api
        self._tier = tier

    def add_to(self, router: APIRouter) -> None:
        """Add the routes."""
        hidden = {"include_in_schema": False, "responses": problems(401, 403)}
        router.add_api_route("/jobs/openapi.json", self.openapi, **hidden)  # type: ignore[arg-type]
        router.add_api_route("/jobs/docs", self.page, **hidden)  # type: ignore[arg-type]

    async def openapi(self) -> Response:
        """The OpenAPI document."""
        return JSONResponse(document_of(self._api, self._tier.app.jobs.values()))

    async def page(self) -> Response:
        """The same, to be read and tried by people."""
        page: HTMLResponse = get_swagger_ui_html(
            openapi_url="openapi.json", title=f"{self._tier.app.name}: jobs"
        )
        page.headers["Content-Security-Policy"] = PAGE_POLICY
        return page


def document_of(api: FastAPI, definitions: Any) -> dict[str, Any]:
    """FastAPI's document, and in it a path for each job."""
    document = copy.deepcopy(api.openapi())
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for definition in definitions:
        for path in (ENQUEUE, REQUEST):
            if path not in document["paths"]:
                continue
            operation = copy.deepcopy(document["paths"][path]["post"])
            _describe(operation, path, definition, schemas)
            named = path.replace("{name}", quote(definition.name, safe=""))
            document["paths"][named] = {"post": operation}
    return document


def _describe(
    operation: dict[str, Any], path: str, definition: Definition, schemas: dict[str, Any]
) -> None:
    """Make the description of all jobs that of one."""
    operation["operationId"] += f"__{_word(definition.name)}"
    operation["summary"] += f": {definition.name}"
    operation["parameters"] = [p for p in operation["parameters"] if p["name"] != "name"]
    body = hoisted(arguments_schema(definition), f"{definition.name}.arguments", schemas)
    operation["requestBody"]["content"]["application/json"]["schema"] = body
    if path == REQUEST:
        result = hoisted(result_schema(definition) or {}, f"{definition.name}.result", schemas)
        operation["responses"]["200"]["content"]["application/json"]["schema"] = result


def hoisted(schema: dict[str, Any], name: str, schemas: dict[str, Any]) -> dict[str, Any]:
    """A schema whose ``$defs`` have gone to the components of the document."""
    prefix = _word(name)
    definitions = schema.get("$defs", {})
    for key, value in definitions.items():
        schemas[f"{prefix}.{_word(key)}"] = _moved(value, prefix)
    moved: dict[str, Any] = _moved({k: v for k, v in schema.items() if k != "$defs"}, prefix)
    return moved


def _moved(part: Any, prefix: str) -> Any:
    if isinstance(part, dict):
        return {key: _moved(value, prefix) for key, value in part.items()}
    if isinstance(part, list):
        return [_moved(value, prefix) for value in part]
    if isinstance(part, str) and part.startswith("#/$defs/"):
        return f"#/components/schemas/{prefix}.{_word(part.removeprefix('#/$defs/'))}"
    return part


def _word(name: str) -> str:
    """As OpenAPI wants the names of components."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
