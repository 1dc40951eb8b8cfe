"""How the messages of a job with a format of its own are described. Changes when a format is."""

from typing import Any, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaValue as JsonSchema

from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.bodies import ANYTHING, Body, Bytes, content_type_of, own
from amqpjobs.jobs.message.cloud_event import OPTIONAL, REQUIRED, VERSION, CloudEvent, CloudEventOf
from amqpjobs.jobs.message.properties import JSON
from amqpjobs.jobs.roundtrip.plain import PlainData


def adapter_of_job(definition: Definition) -> TypeAdapter[Any] | None:
    """What validates the arguments of a job; None for a job without arguments. Of a CloudEvent it
    is what validates the data."""
    payload = definition.payload
    if not isinstance(definition.body, CloudEvent):
        return payload.adapter
    hint = payload.hint_of(payload.names[0])
    if CloudEventOf not in (hint, get_origin(hint)):
        return payload.adapter
    return PlainData(get_args(hint)[0] if get_args(hint) else Any).adapter


def described(body: Body | None, schema: JsonSchema) -> dict[str, Any]:
    """The content type and the schema of a message. Bytes have no schema.

    Args:
        body: the format; None for JSON.
        schema: of the arguments, or of an event.
    """
    if body is None:
        return {"contentType": JSON, "payload": schema}
    content_type = content_type_of(body) or ANYTHING
    if isinstance(body, Bytes):
        return {"contentType": content_type}
    if isinstance(body, CloudEvent):
        if body.mode == "binary" and schema.get("format") == "binary":
            return {"contentType": ANYTHING}
        if body.mode == "binary":
            return {"contentType": JSON, "payload": schema}
        return {"contentType": content_type, "payload": _event(schema)}
    arranged = own(body, "described")
    return {"contentType": content_type, "payload": arranged(schema) if arranged else schema}


def _event(data: JsonSchema) -> JsonSchema:
    text: JsonSchema = {"type": "string", "minLength": 1}
    attributes: JsonSchema = {"specversion": {"type": "string", "const": VERSION}}
    attributes |= dict.fromkeys((*REQUIRED, *OPTIONAL), text)
    return {
        "type": "object",
        "required": ["specversion", *REQUIRED],
        "properties": {**attributes, "data": data, "data_base64": {"type": "string"}},
    }
