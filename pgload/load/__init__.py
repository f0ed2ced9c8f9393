"""The engine: batches become committed rows, and what that took becomes statistics."""
