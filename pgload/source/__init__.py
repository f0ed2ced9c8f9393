"""From JSON files to batches of records."""
