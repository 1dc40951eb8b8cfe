"""Bridges to other people's frameworks, one module each."""
