"""The AMQP properties of a job's message. Changes when those of our messages do."""

from amqpjobs.errors import MessageTooLarge
from amqpjobs.jobs.call_options import carried_of
from amqpjobs.jobs.message.callbacks import header_of
from amqpjobs.jobs.message.compression import Compression, accepted, compressed
from amqpjobs.jobs.message.header_info import JobHeaders
from amqpjobs.jobs.message.headers import accept_header, token_header, write, write_carried
from amqpjobs.jobs.message.message import NO_OPTIONS, Message, Options, takes_own_id
from amqpjobs.jobs.message.own_headers import NO_OWN_HEADERS, header_fields
from amqpjobs.jobs.message.properties import PERSISTENT, TRANSIENT, FieldValue, Properties


class JobProperties:
    """Makes the properties of an app's messages.

    Args:
        app_id: the app's name.
        largest: bytes that a body may have, before it is compressed.
        compression: of large bodies; None for none.
    """

    def __init__(self, app_id: str, largest: int, compression: Compression | None = None) -> None:
        self._app_id = app_id
        self._largest = largest
        self._compression = compression

    def of(
        self,
        message: Message[object],
        headers: dict[str, FieldValue],
        now: float,
        due: float | None,
        correlation_id: str | None = None,
        deadline: float | None = None,
        reply_to: str | None = None,
    ) -> Properties:
        """The properties of one publish of a message.

        Args:
            message: the call.
            headers: of its trace; are changed.
            now: seconds since the epoch.
            due: when it is to be started, if that is later.
            correlation_id: of a request.
            deadline: of a request: how long its caller waits.
            reply_to: of a request.

        Raises:
            MessageTooLarge: its body is over the limit.
            ConfigurationError: an option that a message cannot carry.
        """
        options = message.options
        if len(message.body) > self._largest:
            raise self._too_large(message)
        if options is not NO_OPTIONS:
            headers |= _headers_of(options)
            if options.expires is not None:
                # Not AMQP's `expiration`: the broker would put what expires into the dead letters,
                # the worker acks it, and the fate of a job must not depend on who looks first.
                latest = (due or now) + options.expires
                deadline = latest if deadline is None else min(latest, deadline)
        if deadline is not None or due is not None:
            headers |= write(JobHeaders(deadline=deadline, due=due))
        encoding = None
        if self._compression is not None:
            encoding = self._compression.of(message.body)
            if correlation_id is not None:
                headers |= accept_header(accepted())
        if not takes_own_id(message):
            headers |= token_header()
        return Properties(
            content_type=message.content_type,
            content_encoding=encoding,
            headers=headers,
            delivery_mode=PERSISTENT if correlation_id is None else TRANSIENT,
            priority=message.native_priority,
            correlation_id=correlation_id,
            reply_to=reply_to,
            message_id=message.id,
            timestamp=int(now),
            type=message.job,
            app_id=self._app_id,
        )

    def _too_large(self, message: Message[object]) -> MessageTooLarge:
        return MessageTooLarge(
            f"{message.job}: the message has {len(message.body)} bytes, the limit is "
            f"{self._largest}: store large data elsewhere and send where it is, or raise "
            "AMQPJOBS_MAX_MESSAGE_SIZE",
            message_id=message.id,
        )


def body_of(message: Message[object], properties: Properties) -> bytes:
    """The body of a message as its properties say."""
    encoding = properties.content_encoding
    return message.body if encoding is None else compressed(message.body, encoding)


def _headers_of(options: Options) -> dict[str, FieldValue]:
    """What a message says of its options, but for when it may be started."""
    headers: dict[str, FieldValue] = {}
    if options.headers is not NO_OWN_HEADERS:
        headers |= header_fields(options.headers)
    if options.callbacks is not None:
        headers |= header_of(options.callbacks)
    carried = carried_of(options)
    return headers if carried is None else headers | write_carried(carried)
