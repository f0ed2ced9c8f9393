"""Generated procurement notices; `generator` is the entry point."""
