"""Names in OpenTelemetry: attributes, operations, metrics.

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
STATE = "amqpjobs.queue.state"
"""How a worker has a queue: `QUEUE_STATES`."""
CONSUMING, PAUSED, TRYING, NOT_CONSUMING = "consuming", "paused", "trying", "not_consuming"
QUEUE_STATES = (CONSUMING, PAUSED, TRYING, NOT_CONSUMING)
"""Paused by its kill switch or a job's word; tried by one job at a time; not consumed although it
should be."""
PURPOSE = "amqpjobs.connection.purpose"
"""What a connection is for: ``publish`` or ``consume``."""
APP = "amqpjobs.app"
"""Whose outbox it is: the name of the app."""
DUTY = "amqpjobs.housekeeping.duty"
DURABLE_STATE = "amqpjobs.durable.state"
"""What the housekeeping does: ``outbox``, ``inbox``."""
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
"""The same and on to a day, for what may well take hours: waiting in a queue, and jobs. Whoever
asks for the conventions' buckets finds them all."""

# Metrics of the conventions.
SENT = Metric(
    "messaging.client.sent.messages", "{message}", "Messages that were handed to RabbitMQ."
)
CONSUMED = Metric(
    "messaging.client.consumed.messages", "{message}", "Deliveries that were given to a handler."
)
OPERATION_DURATION = Metric(
    "messaging.client.operation.duration",
    "s",
    "From publishing to its confirm; from the end of a handler to its ack or nack.",
    SECONDS,
)
PROCESS_DURATION = Metric("messaging.process.duration", "s", "How long handlers ran.", LONG_SECONDS)

# Metrics of ours.
RUNNING = Metric("amqpjobs.jobs.running", "{job}", "Jobs that run now.")
SLOTS = Metric("amqpjobs.jobs.concurrency", "{job}", "Jobs that may run at once.")
LOST = Metric(
    "amqpjobs.threads.lost", "{thread}", "Threads that outlive their jobs, each in a slot."
)
ENDED = Metric("amqpjobs.jobs.ended", "{job}", "Deliveries that ended, by outcome.")
WAITING_DURATION = Metric(
    "amqpjobs.job.waiting.duration",
    "s",
    "From enqueueing, or from when it was due, to the start.",
    LONG_SECONDS,
)
QUEUES = Metric("amqpjobs.queues", "{queue}", "Queues of workers, by how they are: 1 or 0 each.")
LOOP_LAG = Metric(
    "amqpjobs.event_loop.lag", "s", "How late the event loop was within the last minute, at most."
)
RECONNECTS = Metric(
    "amqpjobs.connection.reconnects", "{reconnect}", "How often a connection was lost."
)
BLOCKED = Metric(
    "amqpjobs.connection.blocked", "{connection}", "Connections that RabbitMQ blocks now."
)
UNCONFIRMED = Metric(
    "amqpjobs.publisher.unconfirmed",
    "{message}",
    "Messages that were sent, or wait to be, and that RabbitMQ has not confirmed.",
)

OUTBOX_OPEN = Metric(
    "amqpjobs.outbox.open", "{message}", "Messages in the outbox that are still to be sent."
)
OUTBOX_FAILED = Metric(
    "amqpjobs.outbox.failed", "{message}", "Messages in the outbox that RabbitMQ has refused."
)
OUTBOX_AGE = Metric(
    "amqpjobs.outbox.age", "s", "How long the oldest message waits in the outbox; 0 for none."
)
DURABLE_JOBS = Metric(
    "amqpjobs.durable.jobs", "{job}", "Durable jobs that have not ended, or not been undone."
)
HOUSEKEEPING_AGE = Metric(
    "amqpjobs.housekeeping.age", "s", "Since a duty of the housekeeping last succeeded."
)
HOUSEKEEPING_ERRORS = Metric(
    "amqpjobs.housekeeping.errors", "{error}", "Turns of the housekeeping that failed, by duty."
)

GROWING = frozenset((RECONNECTS, HOUSEKEEPING_ERRORS))
"""Of what is read off, what only grows."""

SHARED = frozenset(
    (LOOP_LAG, OUTBOX_OPEN, OUTBOX_FAILED, OUTBOX_AGE, DURABLE_JOBS, HOUSEKEEPING_AGE)
)
"""Of what is read off, what is no sum: two that read the same thing, or of which the worst counts.
"""
