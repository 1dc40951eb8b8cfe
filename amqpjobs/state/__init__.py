"""State kept in SQL, in one schema with one migration chain."""
