"""Sequences of commands that hypothesis makes up, on a RabbitMQ and on the embedded broker.

``AMQPJOBS_CONFORMANCE_EXAMPLES=500`` runs more sequences, other ones each time.
"""

import os
import secrets
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pamqp.commands import Basic, Exchange, Queue

from tests.conformance.client import Channel
from tests.conformance.conftest import REAL_ONLY
from tests.conformance.embedded import on_embedded
from tests.conformance.pair import CHANNELS, DifferenceError, Pair, Side
from tests.conformance.peers import Peer

EXAMPLES: Final = int(os.environ.get("AMQPJOBS_CONFORMANCE_EXAMPLES", "0"))
SHORT: Final = 25
STEPS: Final = 40

QUEUES: Final = ["q1", "q2", "q3"]
EXCHANGES: Final = ["x1", "x2"]
KEYS: Final = ["a", "a.b", "q1"]
PATTERNS: Final = ["a", "a.*", "#", "q1"]

LETTERS: Final = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "PREFIXq3"}
SPECS: Final[list[dict[str, Any]]] = [
    {},
    {"x-queue-type": "quorum"},
    {"x-queue-type": "quorum", "x-delivery-limit": 2, **LETTERS},
    {"x-queue-type": "quorum", "x-delivery-limit": 2},
    {"x-queue-type": "quorum", "x-single-active-consumer": True, "x-delivery-limit": 20},
    {"x-queue-type": "quorum", "x-max-length": 2, "x-overflow": "drop-head", **LETTERS},
    {"x-max-length": 2, **LETTERS},
    {"x-max-length": 2, "x-overflow": "reject-publish"},
    {"x-max-length-bytes": 20},
    {"x-max-priority": 3},
    {"x-single-active-consumer": True},
    LETTERS,
]

queues = st.sampled_from(QUEUES)
exchanges = st.sampled_from(EXCHANGES)
channels = st.integers(0, CHANNELS - 1)
tags = st.sampled_from(["1", "2"])


class Commands(RuleBasedStateMachine):
    """Every rule is one command, told to both and compared."""

    pair_of: Any

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

    compared = 0

    @initialize(specs=st.lists(st.sampled_from(SPECS), min_size=3, max_size=3))
    def begin(self, specs: list[dict[str, Any]]) -> None:
        for queue, spec in zip(QUEUES, specs, strict=True):
            self._declare(queue, spec, 1)
        self._declare_exchange("x1", "topic", 1)
        self._bind(Queue.Bind, "q1", "x1", "#")
        self._bind(Queue.Bind, "q2", "x1", "a.*")

    @rule(queue=queues, spec=st.sampled_from(SPECS), index=channels, passive=st.booleans())
    def declare_queue(self, queue: str, spec: dict[str, Any], index: int, passive: bool) -> None:
        self._declare(queue, spec, index, passive=passive)

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

    @rule(
        what=st.sampled_from(["declare", "bind", "bind", "unbind", "lead", "delete"]),
        queue=queues,
        exchange=exchanges,
        other=exchanges,
        key=st.sampled_from(PATTERNS),
        kind=st.sampled_from(["direct", "fanout", "topic", "auto-delete"]),
    )
    def rewire(self, what: str, queue: str, exchange: str, other: str, key: str, kind: str) -> None:
        match what:
            case "declare":
                self._declare_exchange(exchange, kind, 1)
            case "bind":
                self._bind(Queue.Bind, queue, exchange, key)
            case "unbind":
                self._bind(Queue.Unbind, queue, exchange, key)
            case "lead":
                self._bind(Exchange.Bind, other, exchange, key)
            case _:
                if_unused = kind == "auto-delete"
                self.pair.do(
                    f"delete {exchange} {if_unused=}",
                    1,
                    lambda side, channel: (
                        channel.call(Exchange.Delete(0, side.name(exchange), if_unused)).name
                    ),
                )

    def _declare_exchange(self, exchange: str, kind: str, index: int) -> None:
        fading = kind == "auto-delete"
        self.pair.do(
            f"declare {exchange} {kind} on channel {index}",
            index,
            lambda side, channel: (
                channel.call(
                    Exchange.Declare(
                        exchange=side.name(exchange),
                        exchange_type="direct" if fading else kind,
                        auto_delete=fading,
                    )
                ).name
            ),
        )

    def _bind(self, method: Any, to: str, exchange: str, key: str) -> None:
        self.pair.do(
            f"{method.name} {to} {exchange} {key}",
            1,
            lambda side, channel: (
                channel.call(method(0, side.name(to), side.name(exchange), side.name(key))).name
            ),
        )

    @rule(
        where=st.one_of(
            st.tuples(st.just(""), queues),
            st.tuples(st.just(""), queues),
            st.tuples(exchanges, st.sampled_from(KEYS)),
        ),
        count=st.integers(1, 3),
        mandatory=st.booleans(),
        priority=st.sampled_from([None, 1, 5]),
    )
    def publish(
        self, where: tuple[str, str], count: int, mandatory: bool, priority: int | None
    ) -> None:
        exchange, key = where
        for _ in range(count):
            self.bodies += 1
            body = b"%d" % self.bodies
            said = f"publish {body!r} to {exchange!r} {key!r} {mandatory=} {priority=}"
            self.pair.published(
                said, exchange, key, body, mandatory=mandatory, priority=priority, delivery_mode=2
            )

    @rule(queue=queues, index=channels, no_ack=st.sampled_from([False, False, True]))
    def get(self, queue: str, index: int, no_ack: bool) -> None:
        def get(side: Side, channel: Channel) -> Any:
            return queue, channel.get(side.name(queue), no_ack=no_ack), no_ack

        self.pair.do(f"get {queue} on channel {index} {no_ack=}", index, get)

    @rule(
        queue=queues,
        index=channels,
        tag=tags,
        no_ack=st.sampled_from([False, False, True]),
        prefetch=st.integers(0, 2),
        priority=st.sampled_from([0, 0, 5]),
        exclusive=st.sampled_from([False, False, False, True]),
    )
    def consume(
        self,
        queue: str,
        index: int,
        tag: str,
        no_ack: bool,
        prefetch: int,
        priority: int,
        exclusive: bool,
    ) -> None:
        name = f"{queue}-{index}-{tag}{'-' if no_ack else ''}"

        def consume(side: Side, channel: Channel) -> Any:
            channel.qos(prefetch)
            arguments: dict[str, Any] = {"x-priority": priority} if priority else {}
            return channel.consume(
                side.name(queue), name, no_ack=no_ack, exclusive=exclusive, arguments=arguments
            )

        answer = self.pair.do(
            f"consume {name} {prefetch=} {priority=} {exclusive=}", index, consume
        )
        if answer == name:
            self.consumers[name] = index

    def _consuming(self) -> bool:
        return bool(self.consumers)

    @precondition(_consuming)
    @rule(place=st.integers(0, 9))
    def cancel(self, place: int) -> None:
        name = list(self.consumers)[place % len(self.consumers)]
        index = self.consumers.pop(name)
        self.pair.do(f"cancel {name}", index, lambda _, channel: channel.cancel(name))

    def _holding(self) -> list[int]:
        return [index for index in range(CHANNELS) if self.pair.held[index]]

    @precondition(_holding)
    @rule(
        index=channels,
        place=st.integers(0, 5),
        way=st.sampled_from(["ack", "nack", "nack", "reject"]),
        multiple=st.booleans(),
        requeue=st.sampled_from([True, True, False]),
    )
    def settle(self, index: int, place: int, way: str, multiple: bool, requeue: bool) -> None:
        holding = self._holding()
        chosen = index if index in holding else holding[0]
        options = {} if way == "ack" else {"requeue": requeue}
        self.pair.settle(way, chosen, place, multiple=multiple and way != "reject", **options)

    @precondition(_holding)
    @rule(index=channels, place=st.integers(0, 5), way=st.sampled_from(["nack", "reject"]))
    def give_back(self, index: int, place: int, way: str) -> None:
        self.settle(index, place, way, False, True)

    @rule(
        what=st.sampled_from(["unknown", "close", "close", "recover", "lose"]),
        index=channels,
        way=st.sampled_from(["ack", "nack", "reject"]),
    )
    def disturb(self, what: str, index: int, way: str) -> None:
        match what:
            case "unknown":
                self.pair.do(
                    f"{way} 9999 on channel {index}",
                    index,
                    lambda _, channel: getattr(channel, way)(9999),
                )
            case "close":
                self.pair.close_channel(index)
            case "recover":
                self.pair.held[index].clear()
                self.pair.do(
                    f"recover channel {index}",
                    index,
                    lambda _, channel: channel.call(Basic.Recover(True)).name,
                )
            case _:
                self.pair.lose_connection()

    @rule(what=st.sampled_from(["purge", "purge", "delete", "if_empty", "if_unused"]), queue=queues)
    def empty(self, what: str, queue: str) -> None:
        if what == "purge":
            self.pair.do(f"purge {queue}", 1, lambda side, chan: chan.purge(side.name(queue)))
            return
        options = {} if what == "delete" else {what: True}
        self.pair.do(
            f"delete {queue} {options}",
            1,
            lambda side, channel: channel.delete(side.name(queue), **options),
        )


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
