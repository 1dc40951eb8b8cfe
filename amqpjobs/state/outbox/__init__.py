"""Messages of a transaction: rows in it, sent after its commit, deleted when confirmed."""
