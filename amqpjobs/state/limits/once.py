"""The claims of calls that are one job. Changes when a claim is named, or lasts, otherwise."""

from typing import TYPE_CHECKING

from amqpjobs.state.limits.keys import DEBOUNCE, UNIQUE, key_in

if TYPE_CHECKING:
    from amqpjobs.jobs.exclusion.declared import Exclusion

DEBOUNCED_TTL = 3600.0
"""Seconds from the start of a debounced run, after which another one need not wait for it."""


def claim_key(app: str, job: str, exclusion: "Exclusion", text: str) -> str:
    """The key of a claim.

    Args:
        text: made of the arguments.
    """
    kind = UNIQUE if exclusion.unique is not None else DEBOUNCE
    return key_in(app, kind, f"{job}={text}")


def ttl_of(exclusion: "Exclusion") -> float:
    """Seconds after which a claim is over in any case."""
    return DEBOUNCED_TTL if exclusion.unique is None else exclusion.unique.seconds
