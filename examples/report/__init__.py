"""A report over a folder of texts: each is counted by a job, on all workers."""
