"""Where bytes come from, and how they become records and batches."""
