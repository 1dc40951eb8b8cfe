"""What is remembered in SQL, in one schema with one migration chain."""
