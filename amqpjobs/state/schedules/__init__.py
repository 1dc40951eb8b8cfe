"""Schedules on the store: who is due, who fires, and what an app may say of them at run time."""
