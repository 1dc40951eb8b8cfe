"""Alembic's migrations of the store; `amqpjobs.status.migrating` runs them."""
