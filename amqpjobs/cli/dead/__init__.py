"""``amqpjobs dead``: the jobs that failed for good, as something to work on."""

import typer

from amqpjobs.cli.dead import editing, files, looking, moving

group = typer.Typer(
    help="Work on jobs that failed for good, were parked, or lost a queue.",
    no_args_is_help=True,
)

group.command("list")(looking.list_)
group.command()(looking.show)
group.command()(moving.replay)
group.command()(editing.edit)
group.command()(moving.discard)
group.command()(files.export)
group.command("import")(files.import_)
