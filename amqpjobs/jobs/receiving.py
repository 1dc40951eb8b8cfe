"""What an app says of the webhooks that it receives: `App.hook`.

Changes when a program may say something else of them.
"""

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from amqpjobs.jobs.job import Job, definition_of

if TYPE_CHECKING:
    from amqpjobs.jobs.hook import Hook
    from amqpjobs.jobs.webhook import Signing


class ReceivesWebhooks:
    """What an `App` has for webhooks."""

    _add_hook: "Callable[[Hook], Hook]"

    def hook(
        self,
        name: str,
        *,
        job: Job[..., Any, Any],
        signing: "Signing | None" = None,
        headers: Mapping[str, str] | None = None,
        events: Collection[str] = (),
    ) -> "Hook":
        """Let a signed request to ``POST /hooks/{name}`` of the web tier enqueue a job.

        Its JSON body, or its form as a JSON object, is the job's argument. The secret that signs is
        never in the code: it is ``AMQPJOBS_HOOK_<NAME>_SECRET``, and while it is changed also
        ``..._SECRET_2`` to ``_9``.

        Args:
            name: in the path: small letters, digits, ``-`` and ``_``.
            job: what is enqueued.
            signing: how its sender signs: ``GITHUB``, ``STRIPE``, ``SLACK`` or
                ``STANDARD_WEBHOOKS`` of amqpjobs, or a `Signing` of its own; `SIGNED` if not given.
            headers: which parameters of the job are headers of the request, such as
                ``{"event": "X-GitHub-Event"}``. The body is the one parameter that is left.
            events: which events become a job, such as ``["push"]``; others are answered and
                forgotten. All of them, if not given.

        Raises:
            ConfigurationError: a name that cannot be used, or that is used already; or no request
                can fit the job's parameters.

        Example:
            >>> from amqpjobs import STRIPE
            >>> @app.job(queue="payments")
            ... async def on_payment(event: dict[str, object]) -> None: ...
            >>> hook = app.hook("stripe", job=on_payment, signing=STRIPE)
        """
        from amqpjobs.jobs.hook import Hook
        from amqpjobs.jobs.webhook import SIGNED

        chosen = (events,) if isinstance(events, str) else events
        return self._add_hook(
            Hook(name, definition_of(job), signing or SIGNED, headers or {}, frozenset(chosen))
        )
