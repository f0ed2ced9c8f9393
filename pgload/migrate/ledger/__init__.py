"""The table on the target that records what is committed."""
