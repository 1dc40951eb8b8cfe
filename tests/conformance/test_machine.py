"""Sequences of commands that hypothesis makes up, on a RabbitMQ and on the embedded broker.

``AMQPJOBS_CONFORMANCE_EXAMPLES=500`` runs more sequences, other ones each time.
"""

import os
import secrets
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from pamqp.commands import Exchange, Queue

from tests.conformance.client import Channel
from tests.conformance.conftest import REAL_ONLY
from tests.conformance.embedded import on_embedded
from tests.conformance.pair import CHANNELS, DifferenceError, Pair, Side
from tests.conformance.peers import Peer

T = TypeVar("T")

EXAMPLES: Final = int(os.environ.get("AMQPJOBS_CONFORMANCE_EXAMPLES", "0"))
SHORT: Final = 20
STEPS: Final = 40

QUEUES: Final = ["q1", "q2", "q3"]
OFTEN: Final = ["q1", "q1", "q1", "q2", "q3"]  # most of it happens in one queue
EXCHANGES: Final = ["x1", "x2"]
KEYS: Final = ["a", "a.b", "q1"]
PATTERNS: Final = ["a", "a.*", "#", "q1"]
KINDS: Final = ["direct", "fanout", "topic", "headers", "auto-delete", "alternate"]
ARGUMENTS: Final[list[dict[str, Any]]] = [{}, {}, {"x-match": "any", "a": 1, "b": "x"}, {"a": None}]
HEADERS: Final[list[dict[str, Any] | None]] = [None, None, {"a": 1}, {"b": "x"}, {"CC": ["a.b"]}]

LETTERS: Final = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "PREFIXq3"}
QUORUM: Final = {"x-queue-type": "quorum"}
SPECS: Final[list[dict[str, Any]]] = [
    {},
    LETTERS,
    {"x-max-length": 2, **LETTERS},
    {"x-max-length": 2, "x-overflow": "reject-publish"},
    {"x-max-length-bytes": 10},
    {"x-max-priority": 3},
    {"x-single-active-consumer": True},
    {**QUORUM},
    {**QUORUM, "x-delivery-limit": 2, **LETTERS},
    {**QUORUM, "x-delivery-limit": 20},
    {**QUORUM, "x-single-active-consumer": True, "x-delivery-limit": 20},
    {**QUORUM, "x-max-length": 2, "x-overflow": "drop-head", **LETTERS},
    {**QUORUM, "x-max-length": 3, "x-overflow": "reject-publish"},
]

COMMANDS: Final = {
    "publish": 8,
    "get": 3,
    "consume": 4,
    "cancel": 1,
    "settle": 9,
    "declare": 1,
    "look": 1,
    "exchange": 1,
    "bind": 1,
    "unbind": 1,
    "lead": 1,
    "part": 1,
    "delete_exchange": 1,
    "purge": 1,
    "delete": 1,
    "settle_unknown": 1,
    "close": 2,
    "recover": 1,
    "lose": 1,
}
"""How often each comes, beside the others. Rules of hypothesis would not do: it leaves some out of
each sequence, and a sequence without a publish shows little."""


class Commands(RuleBasedStateMachine):
    """Every step is one command, told to both and compared."""

    pair_of: Any
    compared = 0

    def __init__(self) -> None:
        super().__init__()
        self.pair: Pair = self.pair_of()
        self.bodies = 0
        self.consumers: dict[str, int] = {}
        """By tag, the channel; some may have gone since."""

    def teardown(self) -> None:
        """Leave nothing for the next sequence."""
        type(self).compared += self.pair.commands
        for side in (self.pair.embedded, self.pair.real):
            side.clear(QUEUES, EXCHANGES)

    @initialize(specs=st.lists(st.sampled_from(SPECS), min_size=3, max_size=3))
    def begin(self, specs: list[dict[str, Any]]) -> None:
        for queue, spec in zip(QUEUES, specs, strict=True):
            self._declare(queue, spec, 1)
        self._declare_exchange("x1", "topic")
        self._bind(Queue.Bind, "q1", "x1", "#")
        self._bind(Queue.Bind, "q2", "x1", "a.*")

    @rule(data=st.data())
    def step(self, data: Any) -> None:
        weighted = [name for name, weight in COMMANDS.items() for _ in range(weight)]

        def draw(choices: Sequence[T]) -> T:
            chosen: T = data.draw(st.sampled_from(choices))
            return chosen

        getattr(self, data.draw(st.sampled_from(weighted)))(draw)

    def publish(self, draw: Any) -> None:
        exchange, key = draw(["", "", "", *EXCHANGES]), draw(KEYS)
        if not exchange:
            key = draw(OFTEN)
        mandatory, priority = draw([True, False]), draw([None, 1, 5])
        headers = draw(HEADERS) if exchange else None
        for _ in range(draw([1, 2, 3, 4])):
            self.bodies += 1
            body = b"%d" % self.bodies
            said = f"publish {body!r} to {exchange!r} {key!r} {mandatory=} {priority=} {headers=}"
            options = {"priority": priority, "headers": headers, "delivery_mode": 2}
            self.pair.published(said, exchange, key, body, mandatory=mandatory, **options)

    def get(self, draw: Any) -> None:
        queue, index, no_ack = draw(OFTEN), draw(range(CHANNELS)), draw([False, False, True])

        def get(side: Side, channel: Channel) -> Any:
            return queue, channel.get(side.name(queue), no_ack=no_ack), no_ack

        self.pair.do(f"get {queue} on channel {index} {no_ack=}", index, get)

    def consume(self, draw: Any) -> None:
        queue, index = draw(OFTEN), draw(range(CHANNELS))
        no_ack, prefetch = draw([False, False, False, True]), draw([0, 1, 2, 3])
        if no_ack:
            prefetch = 0  # a quorum queue is told a moment later that there is room again
        priority, exclusive = draw([0, 0, 5]), draw([False] * 7 + [True])
        name = f"{queue}-{index}-{len(self.consumers)}{'-' if no_ack else ''}"

        def consume(side: Side, channel: Channel) -> Any:
            channel.qos(prefetch)
            arguments: dict[str, Any] = {"x-priority": priority} if priority else {}
            return channel.consume(
                side.name(queue), name, no_ack=no_ack, exclusive=exclusive, arguments=arguments
            )

        self.consumers[name] = index
        self.pair.do(f"consume {name} {prefetch=} {priority=} {exclusive=}", index, consume)

    def cancel(self, draw: Any) -> None:
        name, index = draw([("nobody", 1), *self.consumers.items()])
        self.pair.do(f"cancel {name}", index, lambda _, channel: channel.cancel(name))

    def settle(self, draw: Any) -> None:
        holding = [index for index in range(CHANNELS) if self.pair.held[index]]
        if not holding:
            self.publish(draw)
            return
        index = draw(holding)
        place = draw(range(len(self.pair.held[index])))
        way = draw(["ack", "nack", "nack", "reject"])
        multiple = way != "reject" and draw([True, False])
        options = {} if way == "ack" else {"requeue": draw([True, True, False])}
        self.pair.settle(way, index, place, multiple=multiple, **options)

    def declare(self, draw: Any) -> None:
        self._declare(draw(QUEUES), draw(SPECS), draw(range(CHANNELS)))

    def look(self, draw: Any) -> None:
        self._declare(draw(QUEUES), {}, draw(range(CHANNELS)), passive=True)

    def exchange(self, draw: Any) -> None:
        self._declare_exchange(draw(EXCHANGES), draw(KINDS))

    def bind(self, draw: Any) -> None:
        self._bind(Queue.Bind, draw(OFTEN), draw(EXCHANGES), draw(PATTERNS), draw(ARGUMENTS))

    def unbind(self, draw: Any) -> None:
        self._bind(Queue.Unbind, draw(OFTEN), draw(EXCHANGES), draw(PATTERNS), draw(ARGUMENTS))

    def lead(self, draw: Any) -> None:
        self._bind(Exchange.Bind, draw(EXCHANGES), draw(EXCHANGES), draw(PATTERNS), draw(ARGUMENTS))

    def part(self, draw: Any) -> None:
        method = Exchange.Unbind
        self._bind(method, draw(EXCHANGES), draw(EXCHANGES), draw(PATTERNS), draw(ARGUMENTS))

    def delete_exchange(self, draw: Any) -> None:
        exchange, if_unused = draw(EXCHANGES), draw([True, False])

        def delete(side: Side, channel: Channel) -> Any:
            return channel.call(Exchange.Delete(0, side.name(exchange), if_unused)).name

        self.pair.do(f"delete {exchange} {if_unused=}", 1, delete)

    def purge(self, draw: Any) -> None:
        queue = draw(OFTEN)
        self.pair.do(f"purge {queue}", 1, lambda side, channel: channel.purge(side.name(queue)))

    def delete(self, draw: Any) -> None:
        queue, options = draw(QUEUES), draw([{}, {"if_empty": True}, {"if_unused": True}])
        if options:
            self._let_all_go()

        def delete(side: Side, channel: Channel) -> Any:
            return channel.delete(side.name(queue), **options)

        self.pair.do(f"delete {queue} {options}", 1, delete)

    def settle_unknown(self, draw: Any) -> None:
        way, index = draw(["ack", "nack", "reject"]), draw(range(CHANNELS))
        said = f"{way} 9999 on channel {index}"
        self.pair.do(said, index, lambda _, channel: getattr(channel, way)(9999))

    def close(self, draw: Any) -> None:
        self.pair.close_channel(draw(range(CHANNELS)))

    def recover(self, draw: Any) -> None:
        self.pair.recover(draw(range(CHANNELS)))

    def lose(self, draw: Any) -> None:
        if draw([False, True]):
            self._let_all_go()
            self.pair.lose_connection()
        else:
            self.publish(draw)

    def _let_all_go(self) -> None:
        """Before the connection is lost, which a quorum queue may do to it: RabbitMQ ends its
        channels in any order, and what one gives back may go to another for a moment."""
        for index in range(CHANNELS):
            self.pair.close_channel(index)

    def _declare(
        self, queue: str, spec: dict[str, Any], index: int, *, passive: bool = False
    ) -> None:
        def declare(side: Side, channel: Channel) -> Any:
            arguments = {
                name: value.replace("PREFIX", side.prefix) if isinstance(value, str) else value
                for name, value in spec.items()
            }
            method = Queue.Declare(
                queue=side.name(queue), durable=True, passive=passive, arguments=arguments
            )
            answer = channel.call(method)
            return answer.message_count, answer.consumer_count

        said = f"declare {queue} {'passive' if passive else spec} on channel {index}"
        self.pair.do(said, index, declare)

    def _declare_exchange(self, exchange: str, kind: str) -> None:
        fading = kind == "auto-delete"
        alternate = kind == "alternate"

        def declare(side: Side, channel: Channel) -> Any:
            method = Exchange.Declare(
                exchange=side.name(exchange),
                exchange_type="direct" if fading or alternate else kind,
                auto_delete=fading,
                arguments={"alternate-exchange": side.name("x2")} if alternate else {},
            )
            return channel.call(method).name

        self.pair.do(f"declare {exchange} {kind}", 1, declare)

    def _bind(
        self, method: Any, to: str, exchange: str, key: str, arguments: dict[str, Any] | None = None
    ) -> None:
        def bind(side: Side, channel: Channel) -> Any:
            names = side.name(to), side.name(exchange), side.name(key)
            return channel.call(method(0, *names, arguments=arguments or {})).name

        self.pair.do(f"{method.name} {to} {exchange} {key} {arguments}", 1, bind)


def machine(peer: Peer, twin: Peer) -> type[Commands]:
    """The state machine for these two."""

    class Machine(Commands):
        @staticmethod
        def pair_of() -> Pair:
            return Pair(peer, twin, f"{secrets.token_hex(3)}-", QUEUES)

    return Machine


def run(commands: type[Commands], examples: int) -> None:
    run_state_machine_as_test(
        commands,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            derandomize=not EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


@pytest.mark.timeout(0 if EXAMPLES else 240)
@pytest.mark.parametrize("peer", REAL_ONLY, indirect=True)
def test_the_same_comes_out(peer: Peer, twin: Peer, record_property: Any) -> None:
    """Whatever the commands: the embedded broker answers and delivers as RabbitMQ does."""
    commands = machine(peer, twin)
    run(commands, EXAMPLES or SHORT)
    record_property("compared", commands.compared)
    assert commands.compared > 100


def test_a_difference_is_found() -> None:
    """Between two versions there is one."""
    with on_embedded("3.10") as old, on_embedded("4.3") as new, pytest.raises(DifferenceError):
        run(machine(old, new), 100)
