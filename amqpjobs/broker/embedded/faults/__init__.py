"""What can be made to go wrong in the embedded broker."""
