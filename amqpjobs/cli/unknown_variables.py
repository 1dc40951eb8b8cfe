"""Variables ``AMQPJOBS_*`` that nothing reads: mistyped settings. Changes when another is read."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from amqpjobs.jobs.hints import did_you_mean

_OTHERS: Final = {
    "AMQPJOBS_APP", "AMQPJOBS_ASGI", "AMQPJOBS_CACHE", "AMQPJOBS_DEBUG", "AMQPJOBS_LOG_STREAM",
    "AMQPJOBS_SECRETS_DIR", "AMQPJOBS_SUPERVISOR",
}  # fmt: skip
"""Those that are no settings."""

_FOREIGN: Final = re.compile(
    # Webhooks; this project's tests and scripts; and what Docker and Kubernetes set for a service
    # that has such a name (https://kubernetes.io/docs/concepts/containers/container-environment/).
    r"AMQPJOBS_(HOOK_.+|TEST_.+|IMAGE_.+|DEBIAN|(.+_)?SERVICE_(HOST|PORT.*)|(.+_)?PORT(_\d+_.+)?)"
)


def unknown_variables(environment: Mapping[str, str]) -> Iterable[str]:
    """A sentence for each.

    Args:
        environment: as `os.environ`.
    """
    from amqpjobs.settings import VARIABLES

    known = VARIABLES | _OTHERS
    for name in sorted(environment):
        upper = name.upper()
        if not upper.startswith("AMQPJOBS_") or upper in known or _FOREIGN.fullmatch(upper):
            continue
        hint = did_you_mean(upper, known, "AMQPJOBS_")
        yield f"the variable {name} is no setting, and is ignored{hint}"
