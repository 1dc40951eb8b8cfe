"""Run by Alembic: migrates on the connection that `amqpjobs.status.migrating` hands over."""

from alembic import context

from amqpjobs.status.schema import VERSIONS, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSIONS,
)
context.run_migrations()
