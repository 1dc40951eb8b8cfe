"""The worker: takes deliveries, runs jobs, and settles each delivery exactly once."""
