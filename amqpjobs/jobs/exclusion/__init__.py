"""Who may run at once, as values: limits, unique jobs, debounces. The store is elsewhere."""
