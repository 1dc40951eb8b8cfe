"""Durable jobs, kept: their rows, their runs in a worker, and who looks after them."""
