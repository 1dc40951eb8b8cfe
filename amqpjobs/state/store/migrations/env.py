"""Run by Alembic: migrates on the connection that `amqpjobs.state.store.migrate` hands over."""

from alembic import context

from amqpjobs.state.status.table import VERSIONS, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSIONS,
)
context.run_migrations()
