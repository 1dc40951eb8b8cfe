"""Where RabbitMQ 3.10 and 4.3 differ. Changes with RabbitMQ's release notes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """The behaviour of one version of RabbitMQ.

    Attributes:
        version: as amqpjobs speaks of it, such as ``4.3``.
        release: as the server says it in its properties, such as ``4.3.6``.
        max_message_size: the largest body, in bytes.
        default_delivery_limit: of a quorum queue that names none; None for no limit.
        counts_acquired: a quorum queue counts how often a message was given out
            (``x-acquired-count``) apart from how often that failed (``x-delivery-count``); a
            `basic.nack` with requeue is then no failure.
        quorum_priorities: a quorum queue has 32 strict priorities.
        single_active_by_priority: the active one of a quorum queue's single active consumers is
            the one with the highest ``x-priority``, and a higher one takes over.
        cancel_hands_over: a classic queue gives what waits to the next of its single active
            consumers when the active one is cancelled; else not before something else happens.
        late_ack_closes_channel: an ack later than the consumer timeout costs the channel; else,
            on a quorum queue, one consumer is cancelled.
        honours_client_deaths: ``x-death`` of a publisher is believed (and its cycles are dropped).
        tells_last_death: dead letters have ``x-last-death-*``.
        fills_in_type: a queue that is declared without ``x-queue-type`` has the default one in its
            arguments.
        global_prefetch: `basic.qos` with ``global`` is shared by the channel; else it is per
            consumer all the same.
        returns_direct_replies: a mandatory reply to a direct reply-to address is always returned,
            though it was delivered; else never.
        exact_headers: a headers exchange tells 1 from 1.0, and takes a message's timestamp in
            milliseconds, which then differs from the same time in a binding.
        unknown_exchange_type: the code that an unknown type of exchange is refused with.
    """

    version: str
    release: str
    max_message_size: int
    default_delivery_limit: int | None
    counts_acquired: bool
    quorum_priorities: bool
    single_active_by_priority: bool
    cancel_hands_over: bool
    late_ack_closes_channel: bool
    honours_client_deaths: bool
    tells_last_death: bool
    fills_in_type: bool
    global_prefetch: bool
    returns_direct_replies: bool
    exact_headers: bool
    unknown_exchange_type: int


PROFILES = {
    "3.10": Profile(
        version="3.10",
        release="3.10.8",
        max_message_size=128 << 20,
        default_delivery_limit=None,
        counts_acquired=False,
        quorum_priorities=False,
        single_active_by_priority=False,
        cancel_hands_over=False,
        late_ack_closes_channel=True,
        honours_client_deaths=True,
        tells_last_death=False,
        fills_in_type=False,
        global_prefetch=True,
        returns_direct_replies=True,
        exact_headers=False,
        unknown_exchange_type=503,
    ),
    "4.3": Profile(
        version="4.3",
        release="4.3.6",
        max_message_size=16 << 20,
        default_delivery_limit=20,
        counts_acquired=True,
        quorum_priorities=True,
        single_active_by_priority=True,
        cancel_hands_over=True,
        late_ack_closes_channel=False,
        honours_client_deaths=False,
        tells_last_death=True,
        fills_in_type=True,
        global_prefetch=False,
        returns_direct_replies=False,
        exact_headers=True,
        unknown_exchange_type=406,
    ),
}


def profile_named(text: str) -> Profile:
    """The profile of that version.

    Raises:
        ValueError: there is none.
    """
    try:
        return PROFILES[text]
    except KeyError:
        raise ValueError(
            f"no broker profile {text!r}: choose one of {', '.join(PROFILES)}"
        ) from None
