"""A shop whose orders and jobs cannot come apart."""
