"""Durable jobs, as their handlers see them: steps, calls, waiting, undo."""
