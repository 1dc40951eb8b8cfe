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
    RESOURCE_ERROR,
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
from amqpjobs.broker.embedded.model.transactions import Routed, Transaction
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
        transaction: what is put off until `tx.commit`; None on a channel without transactions.
    """

    def __init__(self, vhost: "VirtualHost", sink: "Sink", user: str) -> None:
        self.vhost = vhost
        self.sink = sink
        self.published_to: dict[QuorumQueue, None] = {}
        self.reply_consumer: ReplyConsumer | None = None
        self._user = user
        self.transaction: Transaction | None = None
        self._confirming = False
        self._published = 0

    def select_confirms(self) -> None:
        """`confirm.select`: from now on every message is confirmed, or refused."""
        if self.transaction is not None:
            raise Refusal(PRECONDITION_FAILED, "cannot switch from tx to confirm mode")
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
        if self.transaction is not None:
            self.transaction.published.append(self._routed(message, mandatory))
            return
        number = 0
        if self._confirming:
            self._published = number = self._published + 1
        queue = None if exchange or b"CC" in header else vhost.queues.get(routing_key)
        if queue is not None:
            accepted = queue.publish(message, self)
        else:
            accepted = not self._hand_over(self._routed(message, mandatory))
        if number:
            if accepted:
                self.sink.confirm(number)
            else:
                self.sink.refuse(number)
        if not vhost.is_idle:
            vhost.run()

    def _routed(self, message: Message, mandatory: bool) -> Routed:
        """Find out where a message goes. Up to 3.13 a direct reply has gone when this returns."""
        try:
            return self._routed_by_headers(message, mandatory)
        except DecodeError as problem:
            raise Refusal(INTERNAL_ERROR, str(problem)) from problem

    def _routed_by_headers(self, message: Message, mandatory: bool) -> Routed:
        vhost = self.vhost
        keys: tuple[str, ...] = (message.routing_key,)
        if message.has_copies:
            keys = self._keys(message)
            message = _without_blind(message)
        if not message.exchange and keys[0].startswith(PREFIX) and len(keys) == 1:
            if vhost.profile.returns_direct_replies:
                vhost.replies.deliver(keys[0], message)
                return Routed(message, (), mandatory)
            return Routed(message, keys, mandatory)
        targets = vhost.targets(message.exchange, keys, message) or ()
        names = tuple(queue.name for queue in targets)
        if not message.exchange and vhost.profile.version == "3.10":
            # Its default exchange does not look whether there is a queue; the handing over does.
            names = tuple(key for key in dict.fromkeys(keys) if not key.startswith(PREFIX))
        return Routed(message, names, mandatory)

    def _hand_over(self, routed: Routed) -> list[Queue]:
        """Hand a message to its queues; those that have refused it."""
        vhost, message = self.vhost, routed.message
        refused, count = [], 0
        for name in routed.queues:
            queue = vhost.queues.get(name)
            if queue is not None:
                count += 1
                if not queue.publish(message, self):
                    refused.append(queue)
            elif name.startswith(PREFIX):
                count += vhost.replies.deliver(name, message)
            elif vhost.profile.version != "3.10":  # it was there when the message was published
                place = f'{{resource,<<"{vhost.name}">>,queue,<<"{name}">>}}'
                text = f"failed to deliver message: {{not_found,{place}}}"
                raise Refusal(RESOURCE_ERROR, text)
        if not count and routed.mandatory:
            self.sink.returned(NO_ROUTE, "NO_ROUTE", message)
        return refused

    def _keys(self, message: Message) -> tuple[str, ...]:
        types = {field.name: field.type for field in message.fields}
        for name in ("CC", "BCC"):
            if (wrong := types.get(name, "array")) != "array":
                reason = f'{{unacceptable_type_in_header,"{name}",{wrong}}}'
                raise Refusal(PRECONDITION_FAILED, f"invalid message: {reason}")
        headers = message.headers
        return (message.routing_key, *copy_keys(headers, "CC"), *copy_keys(headers, "BCC"))

    def _check_target(self, message: Message) -> None:
        size, limit = len(message.body), self.vhost.profile.max_message_size
        if size > limit:
            raise Refusal(
                PRECONDITION_FAILED,
                f"message size {size} is larger than configured max size {limit}",
            )
        exchange = self.vhost.exchanges.get(message.exchange)
        if exchange is None:
            raise Refusal(
                NOT_FOUND, f"no {in_vhost('exchange', message.exchange, self.vhost.name)}"
            )
        if exchange.internal:
            what = in_vhost("exchange", message.exchange, self.vhost.name)
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
