"""What holds a queue back: rates, gates, the kill switch."""
