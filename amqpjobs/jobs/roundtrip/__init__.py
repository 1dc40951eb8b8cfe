"""Values to JSON and back: what would not come back equal is refused."""
