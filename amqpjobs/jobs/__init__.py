"""What a job, its message and its queue are: values, policy, formats; no I/O."""
