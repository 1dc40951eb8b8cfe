"""The format of a reply: a result, or an error. Written by workers, read by callers.

A result is JSON. A failure has the AMQP ``type`` ``amqpjobs.error`` and a JSON object as its body:
``error`` (the exception's name), ``message``, ``job``, ``attempt``. Changes when these do.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import from_json, to_json

from amqpjobs.errors import InvalidResult, JobFailed
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.properties import JSON
from amqpjobs.jobs.roundtrip.findings import findings


def error_body(failure: Failure) -> bytes:
    """The body of an answer that says why there is no result."""
    return to_json(
        {
            "error": failure.exception or failure.reason,
            "message": failure.message,
            "job": failure.job,
            "attempt": failure.attempt,
        }
    )


def read_error(
    body: bytes,
    job: str,
    job_id: str | None,
    known: Mapping[str, type[Exception]],
) -> Exception:
    """The exception to raise for such a body. Anybody may have written it: types are checked.

    Args:
        body: of the reply.
        job: whom it is from, if it does not say so itself.
        job_id: of the request.
        known: exception classes by name; of other names it is a `JobFailed`.
    """
    return as_raised(_job_failed(body, job, job_id), known)


def as_raised(failed: JobFailed, known: Mapping[str, type[Exception]]) -> Exception:
    """The job's own exception in place of a `JobFailed`, if its class is known and is made of a
    message alone."""
    kind = known.get(failed.error)
    if kind is None:
        return failed
    try:
        error = kind(str(failed))
    except Exception:  # noqa: BLE001 - it takes more than a message: there is none of it here
        return failed
    error.__cause__ = failed
    return error


def _job_failed(body: bytes, job: str, job_id: str | None) -> JobFailed:
    told = _json_object(body)
    error, message = told.get("error"), told.get("message")
    if not isinstance(error, str) or not isinstance(message, str):
        return JobFailed(
            "it failed, and its reply does not say why: no JSON object with the texts `error` and "
            "`message`",
            error="unknown",
            job=job,
            attempt=None,
            job_id=job_id,
        )
    name, attempt = told.get("job"), told.get("attempt")
    return JobFailed(
        message,
        error=error,
        job=name if isinstance(name, str) else job,
        attempt=attempt if isinstance(attempt, int) and not isinstance(attempt, bool) else None,
        job_id=job_id,
    )


def _json_object(body: bytes) -> Mapping[str, Any]:
    try:
        told = from_json(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def read_value(queue: str, body: bytes, content_type: str | None, returns: Any) -> Any:
    """What a service that is not ours answered: the JSON value, of that type if one is given; the
    bytes as they are, if they are not JSON by their content type, or are asked for.

    A content type may be missing: then it is JSON if it can be.

    Raises:
        InvalidResult: not JSON, or not of that type.
    """
    kind = content_type.partition(";")[0].strip().lower() if content_type else None
    is_json = kind is None or kind == JSON or kind.endswith("+json")
    if returns is bytes or (returns is None and not is_json):
        return body
    if returns is None:
        return _any_json(queue, body, certain=kind is not None)
    adapter = TypeAdapter(returns)
    try:
        return adapter.validate_json(body)
    except PydanticValidationError as error:
        problems = "; ".join(f"{place}: {problem}" for place, problem in findings(error, adapter))
        raise InvalidResult(
            f"the reply from {queue!r} is not what was expected: {problems}"
        ) from None


def _any_json(queue: str, body: bytes, *, certain: bool) -> Any:
    try:
        return from_json(body)
    except ValueError as error:
        if not certain:
            return body
        raise InvalidResult(f"the reply from {queue!r} is not JSON: {error}") from None
