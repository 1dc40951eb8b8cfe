"""The half of a channel that publishes: checks, routing, returns and confirms.

Changes when what is checked of a published message changes.
"""

from typing import TYPE_CHECKING

from amqpjobs.broker.embedded.errors import (
    ACCESS_REFUSED,
    INTERNAL_ERROR,
    NO_ROUTE,
    NOT_FOUND,
    PRECONDITION_FAILED,
    Refusal,
    in_vhost,
)
from amqpjobs.broker.embedded.model.arguments import LONGEST_TTL
from amqpjobs.broker.embedded.model.direct_reply_to import PREFIX, REPLY_TO, ReplyConsumer
from amqpjobs.broker.embedded.model.messages import (
    HAS_EXPIRATION,
    HAS_REPLY_TO,
    HAS_USER_ID,
    Message,
    copy_keys,
)
from amqpjobs.broker.embedded.model.queues import Queue
from amqpjobs.errors import DecodeError

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.quorum import QuorumQueue
    from amqpjobs.broker.embedded.model.sink import Sink
    from amqpjobs.broker.embedded.model.vhost import VirtualHost


class Publishing:
    """What a channel publishes.

    Attributes:
        published_to: the queues that may refuse this channel's messages until further notice.
        reply_consumer: what takes direct replies, if something does.
    """

    def __init__(self, vhost: "VirtualHost", sink: "Sink", user: str) -> None:
        self.vhost = vhost
        self.sink = sink
        self.published_to: dict[QuorumQueue, None] = {}
        self.reply_consumer: ReplyConsumer | None = None
        self._user = user
        self._confirming = False
        self._published = 0

    def select_confirms(self) -> None:
        """`confirm.select`: from now on every message is confirmed, or refused."""
        self._confirming = True

    def publish(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        mandatory: bool = False,
    ) -> None:
        """`basic.publish`. What cannot be routed is returned before it is confirmed.

        Args:
            exchange: where to; "" for the default exchange.
            routing_key: the key; the queue's name on the default exchange.
            header: flags and fields of the content header, as they came.
            body: the body.
            mandatory: whether a message that goes to no queue is returned.
        """
        vhost = self.vhost
        message = Message(exchange, routing_key, header, body)
        if exchange or len(body) > vhost.profile.max_message_size:
            self._check_target(message)
        if (header[0] & (HAS_REPLY_TO | HAS_EXPIRATION)) or header[1] & HAS_USER_ID:
            message = self._checked(message)
        number = 0
        if self._confirming:
            self._published = number = self._published + 1
        queue = None if exchange or b"CC" in header else vhost.queues.get(routing_key)
        if queue is not None:
            accepted = queue.publish(message, self)
        else:
            accepted = self._route(message, mandatory)
        if number:
            if accepted:
                self.sink.confirm(number)
            else:
                self.sink.refuse(number)
        if not vhost.is_idle:
            vhost.run()

    def _route(self, message: Message, mandatory: bool) -> bool:
        """Publish what does not simply go to the queue of the key's name."""
        vhost = self.vhost
        keys: tuple[str, ...] = (message.routing_key,)
        if message.has_copies:
            keys = self._keys(message)
            message = _without_blind(message)
        targets: list[Queue] | None
        if not message.exchange and keys[0].startswith(PREFIX) and len(keys) == 1:
            if vhost.replies.deliver(keys[0], message):
                return True
            targets = None
        else:
            targets = vhost.targets(message.exchange, keys, message)
        if not targets:
            if mandatory:
                self.sink.returned(NO_ROUTE, "NO_ROUTE", message)
            return True
        accepted = True
        for queue in targets:
            accepted &= queue.publish(message, self)
        return accepted

    def _keys(self, message: Message) -> tuple[str, ...]:
        try:
            headers = message.headers
            return (
                message.routing_key,
                *copy_keys(headers, "CC"),
                *copy_keys(headers, "BCC"),
            )
        except DecodeError as problem:
            raise Refusal(PRECONDITION_FAILED, f"invalid message: {problem}") from problem

    def _check_target(self, message: Message) -> None:
        size, limit = len(message.body), self.vhost.profile.max_message_size
        if size > limit:
            raise Refusal(
                PRECONDITION_FAILED,
                f"message size {size} is larger than configured max size {limit}",
            )
        exchange = self.vhost.exchanges.get(message.exchange)
        if exchange is None:
            raise Refusal(NOT_FOUND, f"no {in_vhost('exchange', message.exchange)}")
        if exchange.internal:
            what = in_vhost("exchange", message.exchange)
            raise Refusal(ACCESS_REFUSED, f"cannot publish to internal {what}")

    def _checked(self, message: Message) -> Message:
        """Check what the properties say; a request is told where its reply will go."""
        try:
            properties = message.properties
        except DecodeError as problem:
            raise Refusal(INTERNAL_ERROR, str(problem)) from problem
        if properties.reply_to == REPLY_TO:
            if self.reply_consumer is None:
                raise Refusal(PRECONDITION_FAILED, "fast reply consumer does not exist")
            message = message.with_reply_to(self.reply_consumer.address)
        if properties.user_id is not None and properties.user_id != self._user:
            raise Refusal(
                PRECONDITION_FAILED,
                f"user_id property set to '{properties.user_id}' but authenticated user was "
                f"'{self._user}'",
            )
        if properties.expiration is not None:
            wrong = _wrong_expiration(properties.expiration)
            if wrong is not None:
                raise Refusal(
                    PRECONDITION_FAILED, f"invalid expiration '{properties.expiration}': {wrong}"
                )
        return message


def _without_blind(message: Message) -> Message:
    blind = copy_keys(message.headers, "BCC")
    if not blind:
        return message
    stripped = message.with_headers({}, without=("BCC",))
    stripped.blind = blind
    return stripped


def _wrong_expiration(text: str) -> str | None:
    """What RabbitMQ finds wrong with an expiration, as Erlang writes it."""
    digits = text.lstrip("+-")
    number = digits[: len(digits) - len(digits.lstrip("0123456789"))]
    if not number or len(text) - len(digits) > 1:
        return "no_integer"
    if rest := digits[len(number) :]:
        return f'{{leftover_string,"{rest}"}}'
    value = int(text)
    if value < 0:
        return f"{{value_negative,{value}}}"
    return f"{{value_too_large,{value}}}" if value > LONGEST_TTL else None
