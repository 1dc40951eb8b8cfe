"""Durable jobs in the store: their rows, their runs in a worker, and their housekeeping."""
