"""An album of real photographs, made by competing workers."""
