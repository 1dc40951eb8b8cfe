"""``amqpjobs asyncapi``: the app as an AsyncAPI document. Changes when writing one does."""

from typing import Annotated

import typer

from amqpjobs.cli.app_option import AppOption, load_app
from amqpjobs.cli.output import print_json


def asyncapi(
    app: AppOption = None,
    api_version: Annotated[
        str, typer.Option("--api-version", help="The version to write into the document.")
    ] = "0.0.0",
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print JSON (the default and only format); YAML tools read it too."
        ),
    ] = False,
) -> None:
    """Print an AsyncAPI 3.0 document of the queues, jobs and replies. Needs no broker."""
    print_json(load_app(app).asyncapi(api_version))
