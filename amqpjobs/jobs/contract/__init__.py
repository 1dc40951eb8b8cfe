"""Describes an app to other programs: its AsyncAPI document and JSON Schemas."""
