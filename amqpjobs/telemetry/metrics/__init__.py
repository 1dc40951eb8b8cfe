"""Metrics: instruments, their values, and how they leave the process."""
