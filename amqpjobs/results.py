"""What a handler returned, to JSON and back, by its return annotation.

Changes when the format of a result does.
"""

from pydantic import ValidationError as PydanticValidationError
from pydantic_core import PydanticSerializationError

from amqpjobs.codec import MASK
from amqpjobs.definition import Definition
from amqpjobs.errors import InvalidResult
from amqpjobs.places import findings
from amqpjobs.roundtrip import NotTheSame


def dump_result(definition: Definition, value: object, largest: int) -> bytes:
    """Validate what a handler returned, and encode it.

    Args:
        definition: whose handler.
        value: what it returned.
        largest: bytes that the JSON may have.

    Raises:
        InvalidResult: it does not fit the annotation, cannot become JSON, would not come back
            equal, or is larger.
        ConfigurationError: the annotation itself cannot become JSON.
    """
    try:
        data = definition.result_writer.write(value)
    except NotTheSame as error:
        raise InvalidResult(_lost(definition, error)) from None
    except PydanticValidationError as error:
        raise InvalidResult(_mismatch(definition, error)) from None
    except (PydanticSerializationError, RecursionError) as error:
        raise InvalidResult(
            f"job {definition.name!r} returned what cannot become JSON: {error}"
        ) from error
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
    problems = "; ".join(
        f"{_at(place)}: {problem}" for place, problem in findings(error, definition.result)
    )
    return f"job {definition.name!r} returned what its annotation does not allow: {problems}"


def _lost(definition: Definition, error: NotTheSame) -> str:
    if MASK in error.body:
        return f"job {definition.name!r} returned a secret, which pydantic writes as asterisks"
    place = ".".join(error.difference.place)
    return f"job {definition.name!r} returned what would not arrive as it is: {_at(place)}: " + (
        error.difference.words
    )


def _at(place: str) -> str:
    return f"result.{place}" if place else "result"
