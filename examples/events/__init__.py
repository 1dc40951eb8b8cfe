"""Two services that know each other by the events of two exchanges, and by nothing else."""
