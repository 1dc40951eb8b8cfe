"""Logs, metrics and spans of amqpjobs; the only room that may import opentelemetry."""
