"""Whether a process is well: its state for probes, heartbeats and systemd."""
