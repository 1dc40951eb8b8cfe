"""The store itself: engine, metadata, migrations."""
