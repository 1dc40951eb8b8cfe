"""The names of what amqpjobs tells OpenTelemetry: attributes, operations, metrics.

Of the semantic conventions v1.44.0, https://opentelemetry.io/docs/specs/semconv/messaging/. Those
for messaging are still in development, and Python keeps such names in a private module: so they are
copied here. Names that begin with ``amqpjobs.`` are ours. Changes when the conventions do.
"""

from typing import NamedTuple

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""Says which version the names are of: for backends that translate between versions."""

SCOPE = "amqpjobs"
"""The name of the tracer and of the meter."""

# Attributes of the conventions.
SYSTEM = "messaging.system"
RABBITMQ = "rabbitmq"
OPERATION_NAME = "messaging.operation.name"
OPERATION_TYPE = "messaging.operation.type"
DESTINATION = "messaging.destination.name"
"""The AMQP queue, on both sides. The conventions put a name together from exchange, routing key and
queue, each once: jobs go through the default exchange, where all that is left is the queue. A job
with a delay goes through the delays, whose routing key is different for each second."""
MESSAGE_ID = "messaging.message.id"
CONVERSATION_ID = "messaging.message.conversation_id"
"""AMQP's ``correlation_id``."""
CLIENT_ID = "messaging.client.id"
ROUTING_KEY = "messaging.rabbitmq.destination.routing_key"
DELIVERY_TAG = "messaging.rabbitmq.message.delivery_tag"
ERROR_TYPE = "error.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
EXCEPTION = "exception"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_STACKTRACE = "exception.stacktrace"

# What `messaging.operation.name` says, and spans begin with, and its type where there is one.
PUBLISH, SEND = "publish", "send"
PROCESS = "process"
ACK, NACK, SETTLE = "ack", "nack", "settle"
REQUEST = "request"
"""From a question to its answer, which the conventions have no type for."""
RUN = "run"
"""A job that is run by itself, which is no messaging."""

# Attributes of ours.
JOB = "amqpjobs.job"
QUEUE = "amqpjobs.queue"
"""The app's queue, whatever the priority: `DESTINATION` is the one on the broker."""
ATTEMPT = "amqpjobs.attempt"
OUTCOME = "amqpjobs.outcome"
"""How a delivery ended: the word that its log line says."""
LINK = "amqpjobs.link"
"""On a link: why it is there, `CREATED`, `FIRST_TRY` or `ANSWERED`."""
CREATED, FIRST_TRY, ANSWERED = "created", "first-try", "answered"


class Metric(NamedTuple):
    """What an instrument is made of.

    Attributes:
        unit: in UCUM, as OpenTelemetry wants it.
        buckets: upper bounds, for histograms.
    """

    name: str
    unit: str
    description: str
    buckets: tuple[float, ...] = ()


SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The conventions' buckets for durations."""

LONG_SECONDS = (*SECONDS, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)
"""For what may well take hours, such as waiting in a queue."""

# Metrics of the conventions.
SENT = Metric(
    "messaging.client.sent.messages", "{message}", "Messages that were handed to RabbitMQ."
)
CONSUMED = Metric(
    "messaging.client.consumed.messages", "{message}", "Deliveries that were given to a job."
)
OPERATION_DURATION = Metric(
    "messaging.client.operation.duration",
    "s",
    "From publishing to its confirm; from the end of a handler to its ack.",
    SECONDS,
)
PROCESS_DURATION = Metric("messaging.process.duration", "s", "How long handlers ran.", SECONDS)

# Metrics of ours.
RUNNING = Metric("amqpjobs.jobs.running", "{job}", "Jobs that run now.")
ENDED = Metric("amqpjobs.jobs.ended", "{job}", "Deliveries that ended, by outcome.")
WAITING_DURATION = Metric(
    "amqpjobs.job.waiting.duration", "s", "From enqueueing to the start.", LONG_SECONDS
)
LOOP_LAG = Metric(
    "amqpjobs.event_loop.lag", "s", "How late the event loop was, at most, since the last look."
)
RECONNECTS = Metric("amqpjobs.connection.reconnects", "{reconnect}", "Connections made anew.")
BLOCKED = Metric("amqpjobs.connection.blocked", "1", "1 while RabbitMQ blocks publishers, else 0.")
UNCONFIRMED = Metric(
    "amqpjobs.publisher.unconfirmed", "{message}", "Messages that RabbitMQ has not confirmed yet."
)
PAUSED = Metric("amqpjobs.queues.paused", "{queue}", "Queues that a kill switch or a rate pauses.")
NOT_CONSUMING = Metric(
    "amqpjobs.queues.not_consuming", "{queue}", "Queues that should be consumed, and are not."
)
