"""What a handler returned, to JSON and back, by its return annotation.

Changes when the format of a result does.
"""

from pydantic import ValidationError as PydanticValidationError
from pydantic_core import PydanticSerializationError

from amqpjobs.codec import MASK
from amqpjobs.definition import Definition
from amqpjobs.errors import InvalidResult


def dump_result(definition: Definition, value: object, largest: int) -> bytes:
    """Validate what a handler returned, and encode it.

    Args:
        definition: whose handler.
        value: what it returned.
        largest: bytes that the JSON may have.

    Raises:
        InvalidResult: it does not fit the annotation, cannot become JSON, or is larger.
        ConfigurationError: the annotation itself cannot become JSON.
    """
    adapter = definition.result
    try:
        checked = adapter.validate_python(value)
        data: bytes = adapter.dump_json(checked, by_alias=True, round_trip=True, warnings=False)
        # As who asked will: objects may have changed since they were made, NaN has become null.
        received = adapter.validate_json(data)
    except PydanticValidationError as error:
        raise InvalidResult(_mismatch(definition, error)) from None
    except (PydanticSerializationError, RecursionError) as error:
        raise InvalidResult(
            f"job {definition.name!r} returned what cannot become JSON: {error}"
        ) from error
    if MASK in data and received != checked:
        raise InvalidResult(
            f"job {definition.name!r} returned a secret, which pydantic writes as asterisks"
        )
    if len(data) > largest:
        raise InvalidResult(
            f"job {definition.name!r} returned {len(data)} bytes of JSON, the limit is {largest}; "
            "store it elsewhere, and return where it is"
        )
    return data


def load_result(definition: Definition, data: bytes) -> object:
    """Decode a result and validate it.

    Raises:
        InvalidResult: it is not what the annotation allows.
    """
    try:
        result: object = definition.result.validate_json(data)
    except PydanticValidationError as error:
        raise InvalidResult(_mismatch(definition, error)) from None
    return result


def _mismatch(definition: Definition, error: PydanticValidationError) -> str:
    """Pydantic's findings without the values, which may be secrets."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    problems = "; ".join(
        ": ".join((".".join(("result", *map(str, p["loc"]))), p["msg"])) for p in found[:8]
    )
    return f"job {definition.name!r} returned what its annotation does not allow: {problems}"
