"""Traces: spans, and the trace context of messages."""
