"""The start and the end of the program ``amqpjobs``: what becomes of errors.

Exit status: 0 done or drained, 1 failed, 2 usage, 3 broker unreachable, 130 interrupted. Changes
when an exit status does.
"""

import errno
import os
import sys

from amqpjobs.cli.output import say
from amqpjobs.cli.probe import plain_probe
from amqpjobs.cli.supervisor import init
from amqpjobs.errors import AmqpJobsError, BrokerUnavailable, ConfigurationError, UnknownJob


def main() -> None:
    """Run the program; every error of ours becomes one line and an exit status."""
    init.stand_in_for_init()
    try:
        probe = plain_probe(sys.argv[1:], os.environ)
        if probe is not None:
            sys.exit(probe.run())
        # Here: a probe does without, and typer takes several times as long.
        from amqpjobs.cli.program import program_for

        program_for(sys.argv[1] if sys.argv[1:] else None)()
    except AmqpJobsError as error:
        if _debugging():
            raise
        say(f"amqpjobs: {error}")
        sys.exit(exit_status(error))
    except OSError as error:
        # The machine's: no more files, no space, a pipe that was closed.
        if _debugging():
            raise
        say(f"amqpjobs: {error}" + (" (see ulimit -n)" if error.errno == errno.EMFILE else ""))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _debugging() -> bool:
    return os.environ.get("AMQPJOBS_DEBUG", "") not in ("", "0")


def exit_status(error: AmqpJobsError) -> int:
    """The exit status for an error."""
    if isinstance(error, BrokerUnavailable):
        return 3
    return 2 if isinstance(error, ConfigurationError | UnknownJob) else 1
