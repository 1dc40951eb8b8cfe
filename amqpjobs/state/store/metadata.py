"""What all tables of the store share: their metadata, and the version of the schema.

A new table is a module of its own in `amqpjobs.state`, and a migration.
Changes with each migration.
"""

from sqlalchemy import MetaData

metadata = MetaData()

VERSIONS = "amqpjobs_version"
"""Alembic's own table, by a name of ours: the database may be the application's, and have another.
"""

HEAD = "0006"
"""The newest migration. Known here, so that looking whether a store is behind needs no Alembic."""
