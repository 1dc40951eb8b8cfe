"""A queue as a value: its lanes, delays and limits, and what it needs on the broker."""
