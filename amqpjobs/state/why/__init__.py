"""Why a job does not run: combines the facts of the store, the workers and the broker."""
