"""Alembic's migrations of the store; `amqpjobs.state.store.migrate` runs them."""
