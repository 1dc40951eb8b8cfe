"""Refusals of frames, in RabbitMQ's words. Changes when rabbit_reader.erl says something else."""

from amqpjobs.broker.amqp.frames import FRAME_HEARTBEAT
from amqpjobs.broker.embedded.errors import INTERNAL_ERROR, Refusal

FRAME_ERROR = 501
COMMAND_INVALID = 503
CHANNEL_ERROR = 504
UNEXPECTED_FRAME = 505


def told(code: int, text: str) -> Refusal:
    """A refusal with the code and the words of whoever asked for it, whatever those are."""
    refusal = Refusal(INTERNAL_ERROR, "on request")
    refusal.code, refusal.text = code, text
    return refusal


def unexpected_frame(kind: int, payload: bytes) -> Refusal:
    """A frame that may not come now."""
    return Refusal(UNEXPECTED_FRAME, f"type {kind}, {_snippet(payload)}")


def wrong_frame(kind: int, payload: bytes, problem: str) -> Refusal:
    """A frame that is none."""
    return Refusal(FRAME_ERROR, f"type {kind}, {_snippet(payload)}: {problem}")


def idle_frame(kind: int, payload: bytes) -> Refusal:
    """A frame that no channel takes: a heartbeat in the wrong place, or of a type unknown."""
    if kind == FRAME_HEARTBEAT and not payload:
        return unexpected_frame(kind, payload)
    return wrong_frame(kind, payload, "unknown_frame")


def undecodable(fields: bytes) -> Refusal:
    """A method whose fields are not those that it has."""
    return Refusal(FRAME_ERROR, f"cannot decode <<{_octets(fields)}>>")


def _snippet(payload: bytes) -> str:
    octets = "all" if len(payload) <= 16 else "first 16"
    return f"{octets} octets = <<{_octets(payload[:16])}>>"


def _octets(data: bytes) -> str:
    return ",".join(map(str, data[:256]))
