"""JSON Schemas of all jobs at once: what several of them use is described once, under one name.

Changes when pydantic's schemas do, or the dialect that is wanted of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.contract.formats import adapter_of_job
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.arguments import jsonable
from amqpjobs.jobs.published import Published
from amqpjobs.jobs.roundtrip.encoded_bytes import adapter_of

JsonSchema: TypeAlias = dict[str, Any]

PAYLOAD, RESULT, EVENT = "payload", "result", "event"

OF_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})
"""Keywords whose value maps names to schemas: a name there is no keyword."""

OF_VALUES = frozenset({"const", "default", "enum", "examples"})
"""Keywords whose value is data, in which nothing is a keyword."""


@dataclass(frozen=True, slots=True)
class Schemas:
    """The schemas of some jobs, in the dialect of draft 7.

    Attributes:
        payloads: of the body of each job's messages, by the job's name.
        results: of what each job returns. A job whose result cannot become JSON has none.
        shared: what these refer to, by name.
        events: of the events that are published, by their number. One of any type has none.
    """

    payloads: dict[str, JsonSchema]
    results: dict[str, JsonSchema]
    shared: dict[str, JsonSchema]
    events: dict[int, JsonSchema] = field(default_factory=dict)


def schemas_of(
    definitions: Iterable[Definition], place: str, published: Iterable[Published] = ()
) -> Schemas:
    """The schemas of these jobs.

    Args:
        definitions: the jobs.
        published: events that are published.
        place: where `Schemas.shared` will be in the document, such as ``#/components/schemas/``.

    Raises:
        ConfigurationError: a job that cannot be one.
    """
    adapters: dict[tuple[str, str], TypeAdapter[Any] | None] = dict(_adapters(definitions))
    for number, event in enumerate(published):
        if event.type is not None:
            adapters[str(number), EVENT] = adapter_of(jsonable(event.type))
    mode: JsonSchemaMode = "validation"  # results as well: they travel by `round_trip`
    schemas, whole = TypeAdapter.json_schemas(
        [(key, mode, adapter) for key, adapter in adapters.items() if adapter is not None],
        ref_template=place + "{model}",
        schema_generator=_Lenient,
    )
    shared: dict[str, JsonSchema] = whole.get("$defs", {})
    found: dict[str, dict[str, JsonSchema]] = {PAYLOAD: {}, RESULT: {}, EVENT: {}}
    for (job, kind), adapter in adapters.items():
        schema: JsonSchema = {"type": "object", "additionalProperties": False}
        if adapter is not None:
            schema = schemas[(job, kind), mode]
        reference = schema.get("$ref", "").removeprefix(place)
        if shared.get(reference, {}).get("title") == "arguments" and kind == PAYLOAD:
            # Several parameters: an object of this job alone, which nothing else refers to.
            schema = shared.pop(reference)
            schema.pop("title")
        found[kind][job] = for_draft_7(schema)
    return Schemas(
        found[PAYLOAD],
        found[RESULT],
        {name: for_draft_7(schema) for name, schema in sorted(shared.items())},
        {int(number): schema for number, schema in found[EVENT].items()},
    )


def _adapters(
    definitions: Iterable[Definition],
) -> Iterable[tuple[tuple[str, str], TypeAdapter[Any] | None]]:
    for definition in definitions:
        yield (definition.name, PAYLOAD), adapter_of_job(definition)
        try:
            result = definition.result
        except ConfigurationError:
            continue  # it can be run later, but nobody can ask for what it returns
        yield (definition.name, RESULT), result


class _Lenient(GenerateJsonSchema):
    """A type that has no schema may be anything; the others are still described."""

    def handle_invalid_for_json_schema(
        self, schema: core_schema.CoreSchema, error_info: str
    ) -> JsonSchema:
        """See `GenerateJsonSchema`, which raises."""
        return {}


def for_draft_7(schema: Any) -> Any:
    """A schema of pydantic's, which is of 2020-12, in the dialect of draft 7.

    A reference takes no siblings there, a tuple's items are ``items``, and pydantic's
    ``discriminator`` is OpenAPI's: AsyncAPI means another thing by it, and ``oneOf`` says enough.
    """
    if isinstance(schema, list):
        return [for_draft_7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _value(key, value) for key, value in schema.items() if key != "discriminator"}
    if "prefixItems" in made:
        if "items" in made:
            made["additionalItems"] = made.pop("items")
        made["items"] = made.pop("prefixItems")
    if "$ref" in made and len(made) > 1:
        made["allOf"] = [{"$ref": made.pop("$ref")}]
    return made


def _value(key: str, value: Any) -> Any:
    if key in OF_VALUES:
        return value
    if key in OF_SCHEMAS:
        return {name: for_draft_7(schema) for name, schema in value.items()}
    return for_draft_7(value)
