"""Who may run at once: slots, claims, what waits for them, and locks, as rows of the store."""
