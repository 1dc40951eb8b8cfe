"""Why a job does not run: what the store, the workers and the broker say, put together."""
