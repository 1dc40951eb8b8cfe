"""AMQP 0-9-1 as bytes: fields, frames, contents; no connection."""
