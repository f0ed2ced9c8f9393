"""From a cloud's name to a connection."""
