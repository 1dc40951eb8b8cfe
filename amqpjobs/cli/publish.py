"""``amqpjobs publish``: one event. Changes when a person can say something new about an event."""

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import print_json
from amqpjobs.errors import ConfigurationError

if TYPE_CHECKING:
    from amqpjobs.app import App


def publish(
    exchange: Annotated[str, typer.Argument(help="The exchange.", show_default=False)],
    key: Annotated[str, typer.Argument(help="The routing key.")] = "",
    payload: Annotated[
        str,
        typer.Option("--payload", "-p", help="The payload as JSON. '-' reads standard input."),
    ] = "null",
    app: AppOption = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            "--header",
            metavar="NAME=VALUE",
            help="A header of the message; may be given several times.",
            show_default=False,
        ),
    ] = None,
    type_: Annotated[
        str | None, typer.Option("--type", help="The AMQP type.", show_default=False)
    ] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", help="The event's id.", show_default=False)
    ] = None,
    mandatory: Annotated[
        bool, typer.Option("--mandatory", help="It is an error if no queue is bound for it.")
    ] = False,
    foreign: Annotated[
        bool,
        typer.Option(
            "--foreign",
            help="The exchange is one that the app does not have; it is not declared.",
        ),
    ] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Publish one event to an exchange, and print its id.

    The id is printed once RabbitMQ has confirmed the event. Payloads that the app has declared with
    `app.publishes` are validated.
    """
    from amqpjobs.jobs.message.own_headers import headers_from

    loaded = load_app(app, url=url)
    options = {"headers": headers_from(header or ()), "type": type_, "id": event_id}
    event = _publish(loaded, exchange, key, _value(payload), foreign, mandatory, options)
    published = asyncio.run(event)
    if as_json:
        print_json({"id": published, "exchange": exchange, "routing_key": key})
    else:
        sys.stdout.write(published + "\n")


async def _publish(
    app: "App",
    exchange: str,
    key: str,
    payload: Any,
    foreign: bool,
    mandatory: bool,
    options: dict[str, Any],
) -> str:
    from amqpjobs.jobs.queue.exchange import Exchange

    # What stands in the way is the command's one line, not a log's.
    logging.getLogger("amqpjobs").setLevel(logging.CRITICAL)
    place = Exchange(exchange, foreign=True) if foreign else exchange
    async with app.lifespan():
        link = (await app.client.publisher()).link
        if link.wire is None and link.last_error is not None:
            raise link.last_error
        return await app.publish(place, key, payload, mandatory=mandatory, **options)


def _value(payload: str) -> Any:
    from pydantic_core import from_json

    data = sys.stdin.buffer.read() if payload == "-" else payload.encode()
    try:
        return from_json(data)
    except ValueError as error:
        raise ConfigurationError(f"--payload is not JSON: {error}") from None
