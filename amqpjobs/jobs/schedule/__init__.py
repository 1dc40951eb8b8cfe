"""Schedules as values: when a job is due. No clock, no store: those are elsewhere."""
