"""Errors as problem details (RFC 9457), without values of the request.

Changes when an error of ours means something else over HTTP.
"""

import logging
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from amqpjobs.errors import (
    AmqpJobsError,
    BrokerUnavailable,
    DecodeError,
    InvalidResult,
    JobFailed,
    MessageTooLarge,
    NotConfirmed,
    NotPermitted,
    NoWorker,
    PublishError,
    PublishRejected,
    ReplyLost,
    ReplyTimeout,
    RequestError,
    TopologyMismatch,
    UnknownJob,
    Unroutable,
)

log = logging.getLogger("amqpjobs.web")

PROBLEM_JSON = "application/problem+json"

RETRY_AFTER = "5"
"""Seconds after which to try again what RabbitMQ did not take."""

LONGEST_LIST = 20
"""Findings that are told about one body."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every response: data for programs is never cached and never framed."""

SCHEMA: Mapping[str, Any] = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "detail", "reason"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "The HTTP status as text."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What a person should read."},
        "reason": {"type": "string", "description": "A code for programs."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"where": {"type": "string"}, "problem": {"type": "string"}},
            },
        },
    },
}


class Problem(AmqpJobsError):
    """An answer that says what is wrong.

    Args:
        status: of HTTP.
        reason: one word for programs, such as ``unknown-job``.
        detail: what a person should read; no values of the request.
        headers: of the response.
        more: further members of the body.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **more: object,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})
        self.more = more

    def response(self) -> Response:
        """As an HTTP response."""
        body = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": str(self),
            "reason": self.reason,
            **self.more,
        }
        return secured(
            JSONResponse(body, self.status, headers=self.headers, media_type=PROBLEM_JSON)
        )


class ProblemRoute(APIRoute):
    """A route that answers with problem details, in whichever application it is included."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return secured(await handler(request))
            except ClientDisconnect:
                return Response(status_code=499)  # nobody reads it
            except RequestValidationError as error:
                return invalid_request(error).response()
            except AmqpJobsError as error:
                problem = problem_of(error)
                if problem.reason in ("internal", "not-permitted"):
                    # Names of users and queues are no business of whoever asked.
                    said = str(error.__cause__ or error)
                    log.error("request failed", extra={"error": said})  # noqa: TRY400 - it names the fix
                return problem.response()

        return answer


def secured(response: Response) -> Response:
    """With our headers, where it does not say otherwise."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def answer_http_error(request: Request, error: Exception) -> Response:
    """An exception handler for what no route of ours has raised: no such path, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for no other
    phrase = HTTPStatus(error.status_code).phrase
    reason = phrase.lower().replace(" ", "-")
    return Problem(error.status_code, reason, str(error.detail), error.headers).response()


async def answer_bug(request: Request, error: Exception) -> Response:
    """An exception handler for the rest. The server's log has the traceback, the client has not."""
    return Problem(500, "internal", "something went wrong here; the log says what").response()


def problem_of(error: AmqpJobsError) -> Problem:
    """What an error of ours is over HTTP."""
    match error:
        case Problem():
            return error
        case UnknownJob():
            return Problem(404, "unknown-job", str(error))
        case DecodeError():
            return invalid_body(error)
        case PublishError():
            return _not_published(error)
        case BrokerUnavailable():
            # Its message names the broker's address and user: that is for the log.
            return _unavailable("broker-away", "RabbitMQ cannot be reached from here")
        case RequestError():
            return _not_answered(error)
        case InvalidResult():
            return Problem(502, "invalid-result", "the reply does not fit the job's return type")
        case TopologyMismatch():
            return _unavailable("topology", f"{error.entity} is not as this application needs it")
        case NotPermitted():
            return _unavailable(
                "not-permitted", "RabbitMQ does not permit that to this application"
            )
        case _:
            return Problem(500, "internal", f"{type(error).__name__}; the log says more")


def invalid_body(error: DecodeError) -> Problem:
    """A body that does not fit the job: where, and why; never what was there."""
    if not error.findings:
        return Problem(422, "invalid-arguments", str(error))
    return Problem(
        422,
        "invalid-arguments",
        "the body does not fit the job",
        errors=[
            {"where": place or "body", "problem": problem}
            for place, problem in error.findings[:LONGEST_LIST]
        ],
    )


def invalid_request(error: RequestValidationError) -> Problem:
    """Parameters of the path, the query or the headers that cannot be used."""
    found = error.errors()
    return Problem(
        422,
        "invalid-request",
        "the request cannot be used",
        errors=[
            {"where": ".".join(map(str, each["loc"])), "problem": each["msg"]}
            for each in found[:LONGEST_LIST]
        ],
    )


def _not_published(error: PublishError) -> Problem:
    more = {"id": error.message_id} if error.message_id else {}
    match error:
        case MessageTooLarge():
            return Problem(413, "too-large", "the body is larger than a message may be")
        case PublishRejected():
            return _unavailable("queue-full", "the queue takes no more jobs now", **more)
        case Unroutable():
            return _unavailable("no-queue", "the job's queue is not there", **more)
        case NotConfirmed(sent=True):
            return _unavailable(
                "unconfirmed", "RabbitMQ did not confirm in time; the job may be there", **more
            )
        case _:
            return _unavailable(
                "not-sent", "RabbitMQ could not be reached in time; nothing was sent", **more
            )


def _not_answered(error: RequestError) -> Problem:
    match error:
        case JobFailed():
            return Problem(
                500,
                "job-failed",
                str(error),
                error=error.error,
                attempt=error.attempt,
                id=error.job_id,
            )
        case NoWorker():
            return Problem(503, "no-worker", "no worker consumes the queue of this job")
        case ReplyTimeout():
            words = f"no answer within {error.timeout:g} s"
            return Problem(504, "reply-timeout", words, sent=error.sent)
        case ReplyLost():
            return Problem(
                502,
                "reply-lost",
                "the reply queue was lost; the job may run",
                sent=error.sent,
            )
        case _:
            return Problem(502, "not-answered", "the request got no reply")


def _unavailable(reason: str, detail: str, **more: object) -> Problem:
    return Problem(503, reason, detail, {"Retry-After": RETRY_AFTER}, **more)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route that may answer so, for its documentation."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_JSON: {"schema": dict(SCHEMA)}},
        }
        for status in statuses
    }
