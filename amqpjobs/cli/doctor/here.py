"""What the doctor finds in the app, its settings and this machine. Changes when there is more to
check there.
"""

import resource
from typing import TYPE_CHECKING

from amqpjobs.cli.doctor.check import Check
from amqpjobs.jobs.queue.queue import lanes_of

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.broker.rabbitmq.profile import Profile


def clock() -> Check:
    """Whether this machine's clock can be right."""
    import time

    # Deadlines compare the clocks of the enqueuing and the working machine.
    year = time.gmtime().tm_year
    if year < 2024:
        return Check("clock", "error", f"this machine believes it is {year}", "run an NTP client")
    return Check("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def timeouts(app: "App", profile: "Profile") -> list[Check]:
    """Whether every job has one that RabbitMQ waits for."""
    from amqpjobs.worker.hold_limits import holding_of

    settings = app.settings
    prefetch = settings.prefetch_for(settings.concurrency)
    checks = [
        Check(f"job {problem.job!r}", "warning", problem.finding, problem.fix)
        for queue in app.queues.values()
        for problem in holding_of(
            app.client.runtime,
            queue,
            profile,
            concurrency=settings.concurrency,
            held=1 if queue.singleton else prefetch * len(lanes_of(queue)),
        ).problems()
    ]
    without = [d.name for d in app.jobs.values() if d.timeout is None]
    if without:
        checks.append(
            Check(
                "timeouts",
                "warning",
                f"jobs without one: {', '.join(without[:5])}",
                "give @app.job(timeout=seconds), or a job that hangs is run again, and hangs again",
            )
        )
    return checks or [Check("timeouts", "ok", "every job has one, which RabbitMQ waits for")]


def files(app: "App") -> Check:
    """Whether enough files may be open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = 64 + 4 * app.settings.concurrency
    if soft < need:
        return Check(
            "open files", "error", f"the limit is {soft}, {need} may be needed", "ulimit -n 4096"
        )
    return Check("open files", "ok", f"the limit is {soft}")


def transport(app: "App") -> list[Check]:
    """Whether the connection is encrypted, and the server verified."""
    settings = app.settings
    url = settings.broker_url
    if settings.tls_insecure:
        return [
            Check(
                "TLS", "error", "the server's certificate is not verified",
                "unset AMQPJOBS_TLS_INSECURE and give AMQPJOBS_TLS_CA_FILE",
            )
        ]  # fmt: skip
    local = {node.host for node in url.nodes} <= {"localhost", "127.0.0.1"}
    if not url.encrypted and not local:
        return [Check("TLS", "warning", "passwords and jobs travel in the clear", "use amqps://")]
    return [Check("TLS", "ok", "encrypted" if url.encrypted else "same machine")]
