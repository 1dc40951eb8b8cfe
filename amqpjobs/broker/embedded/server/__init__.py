"""The server of the embedded broker: sockets, frames, methods."""
