"""A message as a value: its properties, headers, body and reply, and copies of it."""
