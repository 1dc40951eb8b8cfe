"""What an app tells other programs: its AsyncAPI document and JSON Schemas."""
