"""The engine: writes batches, commits them, and measures it."""
